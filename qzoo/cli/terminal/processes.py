"""Commands in several processes, as `torchrun` starts them: one speaks and writes, and all end together."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from qzoo.cli.terminal.console import mute, muted
from qzoo.errors import PeerError, UnsupportedError
from qzoo.progress import phase

BY_SIGNAL = 128
"""What the number of a signal is added to, as shells do: the exit code of a process that it ended."""
AFTER_THE_FIRST = 10.0
"""Seconds for the first process to print the mistake that all made; `torchrun` ends the rest when it is done."""
FOR_THE_OTHERS = 2.0
"""Seconds that the first process leaves the others to come to the same mistake, before `torchrun` ends them."""


def in_each_process(run: Callable[..., None]) -> Callable[..., None]:
    """Returns a command that works with the other processes, where a launcher says in the environment there are some.

    Without `WORLD_SIZE` and `RANK`, or with one process, the command runs as it is.
    """

    @functools.wraps(run)
    def command(*arguments: Any, **options: Any) -> None:
        if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
            run(*arguments, **options)
            return
        from qzoo.distributed import failing_together

        _join(str(options.get("device")))
        with failing_together():
            run(*arguments, **options)

    return command


def mute_all_but_the_first() -> None:
    """Under `torchrun`, silences all processes but the first, from mistakes in the command line on."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        mute()


def leave(code: object) -> None:
    """Leaves the process group, if there is one, once the first process has said what there is to say.

    `torchrun` kills all processes as soon as one ends with an error, so none may end before that.
    """
    # Without torch there is no group; and an interrupted process does not wait for others.
    distributed = sys.modules.get("torch.distributed")
    if isinstance(code, int) and code > BY_SIGNAL:
        return
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        from qzoo.distributed import meet

        # Who is told to end while it waits ends with the code that it has.
        with suppress(PeerError, KeyboardInterrupt):
            meet()
        _end(code)
    elif code and "TORCHELASTIC_RUN_ID" in os.environ:
        with suppress(KeyboardInterrupt):
            time.sleep(AFTER_THE_FIRST if muted() else FOR_THE_OTHERS)


def _end(code: object) -> NoReturn:
    """Ends this process as it is: while Python takes a process group down, its threads may still abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _join(device: str) -> None:
    import torch
    from torch import distributed

    from qzoo.cli.terminal.progress_bar import bar

    # What lies on a GPU travels by NCCL, what lies on the CPU by Gloo, as all that qzoo itself sends.
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") and torch.cuda.is_available() else "gloo"
    try:
        with phase(bar, "waiting for the other processes"):
            distributed.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} and RANK={os.environ['RANK']} are set, but the processes don't "
            f"find each other: {error}. Start with `torchrun --nproc-per-node=N -m qzoo ...`, or unset WORLD_SIZE."
        ) from error
    if distributed.get_rank() > 0:
        mute()
