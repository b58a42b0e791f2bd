"""Several processes at one task: who this one is, failing together, and bringing results together.

Each process runs the same code on its share of the batches. Tasks use a `torch.distributed` group that exists and never
make one; without a group there is one process, and nothing here communicates. Results travel as plain tensors, so
nothing is unpickled, whatever the backend.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from qzoo.errors import PeerError, QzooError, UnsupportedError

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Lets this process work by itself inside the block, whether or not others do the same: it waits for none."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def world_size() -> int:
    """Returns how many processes work together; 1 without a group, and for one that works `alone`."""
    if _ALONE.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def named_by_process(what: str) -> str:
    """Returns words for the progress of this process, which is all that a person sees of several."""
    return what if world_size() == 1 else f"{what} in 1 of {world_size()} processes"


def own_device(device: torch.device) -> torch.device:
    """Returns the device that this process uses: of several, each takes the GPU of its `LOCAL_RANK` for `cuda`.

    Raises:
        UnsupportedError: one GPU is named for all processes, or there are fewer GPUs than processes.

    Example:
        >>> own_device(torch.device("cpu"))
        device(type='cpu')
    """
    if world_size() == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise UnsupportedError(
            f"Device '{device}' is one GPU, but there are {world_size()} processes. "
            "Say --device cuda: each process takes the GPU of its LOCAL_RANK."
        )
    local, gpus = int(os.environ.get("LOCAL_RANK", rank())), torch.cuda.device_count()
    if local >= gpus:
        raise UnsupportedError(
            f"Process {rank()} wants GPU {local}, but this machine has {gpus}. "
            f"Start one process a GPU: torchrun --nproc-per-node={gpus}."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


_WATCHED: ContextVar[bool] = ContextVar("watched", default=False)


@contextmanager
def failing_together() -> Iterator[None]:
    """Ends the block with an error in every process if it ends with one in any, so that none waits for another.

    A process that fails says so where the others next meet it: in `meet`, or at the end of the block. Only the
    outermost block counts.

    Raises:
        PeerError: another process failed; the message is its own.
    """
    if _WATCHED.get() or world_size() == 1:
        yield
        return
    token = _WATCHED.set(True)
    try:
        yield
    except PeerError:
        raise
    except Exception as error:
        _exchange(error)
        raise
    except SystemExit:
        meet()
        raise
    else:
        meet()
    finally:
        _WATCHED.reset(token)


def meet() -> None:
    """Waits until every process is here.

    Raises:
        PeerError: one failed on its way.
    """
    if world_size() > 1:
        failure = _exchange(None)
        if failure is not None:
            raise failure


def reduced(tensor: Tensor, how: Literal["min", "max", "sum"]) -> Tensor:
    """Returns the elementwise minimum, maximum or sum over all processes, on the CPU.

    Args:
        tensor: a tensor of the same shape and dtype everywhere; without NaN, which backends order differently.
        how: which of them.
    """
    if world_size() == 1:
        return tensor.cpu()
    result = tensor.to(_meeting_place(), copy=True)
    dist.all_reduce(result, {"min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX, "sum": dist.ReduceOp.SUM}[how])
    return result.cpu()


def gathered_rows(rows: Tensor) -> Tensor:
    """Returns the rows of all processes, one process after the other, on the CPU.

    Args:
        rows: `(n, ...)`; n may differ, and be 0, the rest of the shape and the dtype may not.

    Raises:
        PeerError: another process failed before it got here.
    """
    if world_size() == 1:
        return rows.cpu()
    meet()
    counts = reduced(torch.eye(world_size(), dtype=torch.int64)[rank()] * len(rows), "sum").tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:], device=_meeting_place())
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).cpu()


def _exchange(error: Exception | None) -> PeerError | None:
    """Tells the others whether this process failed, and returns the error of the first one that did."""
    try:
        failed = world_size() if error is None else rank()
        first = int(reduced(torch.tensor(failed), "min"))
        return None if first == world_size() else _broadcast(error, first)
    except RuntimeError:
        return PeerError(
            "Another process ended without a word: killed, or out of memory. torchrun's last lines say which."
        )


def _broadcast(error: Exception | None, first: int) -> PeerError:
    known = isinstance(error, (QzooError, OSError))
    text = str(error) if known else "".join(traceback.format_exception(error))
    content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=_meeting_place())
    header = torch.tensor([len(content), known], device=_meeting_place())
    dist.broadcast(header, first)
    if first != rank():
        content = torch.empty(int(header[0]), dtype=torch.uint8, device=_meeting_place())
    dist.broadcast(content, first)
    message = bytes(content.tolist()).decode()
    return PeerError(f"The process of rank {first} failed: {message}", known=bool(header[1]))


def _meeting_place() -> torch.device:
    """Returns where tensors have to lie to be sent: on the CPU, unless the group is for GPUs alone."""
    if "cpu" in dist.get_backend_config():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
