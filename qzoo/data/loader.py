"""Batches of a split, in worker processes where decoding is the work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qzoo.data.split import ArraySplit, Split
from qzoo.errors import DataError


class _Batches(Dataset[tuple[Tensor, Tensor] | DataError]):
    def __init__(self, split: Split, transform: Any, batches: list[list[int]]) -> None:
        self.split, self.transform, self.batches = split, transform, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor] | DataError:
        indices = self.batches[position]
        try:
            return self.split.batch(indices, self.transform), self.split.labels[indices]
        except DataError as error:
            # Raised in a worker it would reach the user wrapped in the worker's traceback.
            return error


def loader(
    split: Split, transform: Any, batch_size: int, indices: Sequence[int] | None = None, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches `(x, y)`: x float32 `(N, C, H, W)`, y int64 `(N,)`.

    Args:
        split: the images.
        transform: from a uint8 batch or a PIL image to float32; or an `Augmentation`.
        batch_size: images a batch; the last may be smaller.
        indices: which images, in order; default: all.
        workers: processes that decode; 0 decodes here, and so is a single batch. Batches are the same bit for bit.

    Raises:
        DataError: an image is damaged, `batch_size` is below 1, or a worker died.
    """
    if batch_size < 1:
        raise DataError(f"A batch of {batch_size} images is asked for. Give a batch size of 1 or more.")
    order = list(range(len(split)) if indices is None else indices)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    # A generator of its own: DataLoader would otherwise draw from torch's global one, and change what a training draws.
    batched = DataLoader(
        _Batches(split, transform, batches), batch_size=None, generator=torch.Generator(),
        num_workers=min(workers, len(batches)) if len(batches) > 1 else 0, worker_init_fn=_start_worker,
    )  # fmt: skip
    for batch in _received(batched):
        if isinstance(batch, DataError):
            raise batch
        yield batch


def default_workers(split: Split) -> int:
    """Returns how many processes decode a split unless told: none for images in memory, else one a core, at most 8.

    Processes that `torchrun` started on this machine share its cores.
    """
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if isinstance(split, ArraySplit) else min(max(cores, 1), 8)


def _start_worker(_: int) -> None:
    # Ctrl-C reaches every process of a terminal, and so does its end; the main one stops its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A scheduler's signal may reach all too, while the main one finishes its step; if a second comes, it is from there.
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
    # Workers are as many as cores: threads of their own would only wait for each other.
    torch.set_num_threads(1)


def _received(batches: Iterable[Any]) -> Iterator[Any]:
    received = iter(batches)
    while True:
        try:
            batch = next(received)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise DataError(
                f"A process that decodes images has died ({error}), perhaps because memory ran out. Use fewer with "
                "--workers, or --workers 0 to decode in the main process."
            ) from error
        yield batch
