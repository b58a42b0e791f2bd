"""Ctrl-C, and the signals of schedulers and of a closed terminal: a run finishes its step and saves itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end. It is no error, as Ctrl-C is none.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A handler that ends the process at once, as Ctrl-C does: what is unfinished is cleaned up.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(number)


class Interrupts:
    """Whether somebody wants the run to end.

    Attributes:
        asked: somebody does.
        number: the number of the signal that said so.
    """

    def __init__(self) -> None:
        self.asked, self.number = False, int(signal.SIGINT)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Takes note of a signal; a second one ends the process at once."""
        if self.asked:
            raise Interrupted(number)
        self.asked, self.number = True, number


@contextmanager
def noticing_interrupts() -> Iterator[Interrupts]:
    """Yields what tells of interrupts while the block runs; afterwards they do again what they did before.

    Other threads than the main one can't be interrupted, so nothing changes there.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    # Under nohup, a run outlives its terminal.
    noticed = [one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.note) for number in noticed}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
