"""What the commands print with: two consoles, JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from qzoo.cli.streams import open_closed_streams
from qzoo.files import is_stream, write_text
from qzoo.redaction import redact

closed_streams = open_closed_streams()
# Without emoji: the table of their names costs more than printing, and `:int8:` is no picture.
stdout = Console(width=None if sys.stdout.isatty() else 150, emoji=False, highlight=False)
stderr = Console(stderr=True, emoji=False, highlight=False)
_quiet: list[bool] = []


def mute() -> None:
    """From now on this process neither prints nor writes results: another one does."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    _quiet.append(True)


def muted() -> bool:
    """Whether another process prints and writes."""
    return bool(_quiet)


def fail(message: str) -> NoReturn:
    """Prints one message for a known mistake and exits with 2."""
    stderr.print(f"[bold red]error[/] {_escape(redact(message))}", highlight=False, soft_wrap=True)
    sys.exit(2)


def check_target(target: str | None, option: str = "--json") -> None:
    """Refuses a file that can't be written, before the work whose result it is for.

    Raises:
        OSError: its folder can't be made, or the file is a folder.
    """
    if target in (None, "-") or muted():
        return
    path = Path(str(target))
    if is_stream(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{option} {target} is a folder, not a file")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{option} {target} can't be written")


def write_json(text: str, target: str) -> None:
    """Writes JSON to a file, in one step, or to standard output for `-`."""
    if muted():
        return
    if target == "-":
        print(text)
        return
    write_text(target, text + "\n")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
