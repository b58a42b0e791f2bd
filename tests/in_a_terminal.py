"""`qzoo` in a terminal of 100 columns: what it shows, when, and what is left on the screen when it has ended."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import time
from dataclasses import dataclass, field

import pyte

ROWS, COLUMNS = 40, 100


@dataclass
class Session:
    """What a command showed.

    Attributes:
        code: its exit code.
        first: seconds until there was anything to see.
        shown: each state of the last line on the screen, in order.
        screen: the lines that are left.
        hides_cursor: whether the cursor is gone.
    """

    code: int = -1
    first: float = float("inf")
    shown: list[str] = field(default_factory=list)
    screen: list[str] = field(default_factory=list)
    hides_cursor: bool = False


def in_a_terminal(*arguments: str, module: str = "qzoo") -> Session:
    """Runs a command to its end."""
    session, screen = Session(), pyte.Screen(COLUMNS, ROWS)
    stream, start = pyte.ByteStream(screen), time.monotonic()
    process, terminal = _started(["-m", module, *arguments])
    while data := _read(terminal):
        stream.feed(data)
        session.screen = [line.rstrip() for line in screen.display if line.strip()]
        if session.screen:
            session.first = min(session.first, time.monotonic() - start)
            session.shown.append(session.screen[-1])
    session.code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    session.hides_cursor = screen.cursor.hidden
    os.close(terminal)
    return session


def _started(arguments: list[str]) -> tuple[int, int]:
    # Not pty.fork: the process of the tests has threads.
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    streams = [(os.POSIX_SPAWN_DUP2, slave, number) for number in range(3)]
    environment = {**os.environ, "TERM": "xterm"}
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=streams)
    os.close(slave)
    return process, master


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # as Linux says that the other end is closed
        return b""
