"""Ctrl-C, and the signal with which schedulers end a job: a run finishes its step and saves itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Whether somebody wants the run to end.

    Attributes:
        asked: somebody does.
    """

    def __init__(self) -> None:
        self.asked = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Takes note of a signal; a second one ends the process at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def noticing_interrupts() -> Iterator[Interrupts]:
    """Yields what tells of interrupts while the block runs; afterwards they do again what they did before.

    Other threads than the main one can't be interrupted, so nothing changes there.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.note) for number in SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
