"""Standard streams of a command: what becomes of it where they are closed, full, or read no further."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from qzoo.redaction import redact

UNREAD = 128 + signal.SIGPIPE
"""The exit code of a command whose output nobody reads on, as of other tools: `qzoo list | head -1`."""
UNWRITABLE = 2


def open_closed_streams() -> list[str]:
    """Opens those of the three standard streams that are closed, as nothing, and returns their names.

    Else the next file that is opened would take their place, and whatever is printed would go into it.
    """
    closed = []
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            closed.append(name)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    return closed


def guard_streams() -> None:
    """From now on, what is printed has no secrets in it, and streams that can't be written end the command properly."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Guarded(stream, needed=name == "stdout"))


class _Guarded(io.TextIOWrapper):
    """A standard stream. Signs that its encoding lacks are escaped.

    Args:
        stream: it was before.
        needed: whether the command ends where it can't be written.
    """

    def __init__(self, stream: io.TextIOWrapper, needed: bool) -> None:
        super().__init__(
            stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering
        )  # fmt: skip
        self._before, self._needed = stream, needed  # which would close the buffer when it goes

    def write(self, text: str) -> int:
        try:
            return super().write(redact(text))
        except OSError as error:
            self._give_up(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Lets all that is still printed go nowhere, and ends the command if this stream is needed."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        if self._needed:
            _end(error)


def _end(error: OSError) -> NoReturn:
    if isinstance(error, BrokenPipeError):
        sys.exit(UNREAD)
    print(f"error standard output can't be written: {error.strerror}. Send it elsewhere.", file=sys.stderr)
    sys.exit(UNWRITABLE)


def flush_output() -> None:
    """Writes what is left of standard output; Python would do it later, and end with a code of its own if it can't."""
    stdout: Any = sys.stdout
    if stdout is not None and not stdout.closed:
        stdout.flush()
