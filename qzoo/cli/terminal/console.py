"""What the commands print with: two consoles, JSON.

What is printed holds names out of files that may be anybody's. So a text is no markup: what has a style is a `Text`
(`labelled`). And a terminal obeys nothing of it: whatever is printed, cells of tables, progress bars and code
included, passes `_Console.render`, which shows control characters as escapes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from qzoo.cli.terminal.streams import open_closed_streams
from qzoo.errors import escaped, readable
from qzoo.files import is_stream, write_text
from qzoo.redaction import redact

WHITE = "\n\t"
"""Signs that are none to look at, and harmless."""
_JSON_UNSAFE = re.compile(r"[\x7f-\U0010ffff]")


class _Console(Console):
    """Shows what it is given, and obeys nothing of it."""

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """Yields the pieces of what is printed, with nothing in them that a terminal would obey."""
        for text, style, control in super().render(*arguments, **options):
            # Rich's own control sequences are in pieces of their own.
            yield Segment(text if control else escaped(text, WHITE), style, control)

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns a text in the width that it will have."""
        return super().render_str(escaped(text, WHITE), **options)


def _width() -> int | None:
    """Returns the signs of a line: as `COLUMNS` says; else what the terminal has, and 150 where there is none."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return None if sys.stdout.isatty() else 150


closed_streams = open_closed_streams()
# Without emoji: the table of their names costs more than printing, and `:int8:` is no picture.
stdout = _Console(width=_width(), emoji=False, highlight=False, markup=False)
stderr = _Console(stderr=True, emoji=False, highlight=False, markup=False)
_quiet: list[bool] = []


def labelled(word: str, style: str, text: str) -> Text:
    """Returns a text after a word that has a style."""
    return Text.assemble((word, style), escaped(text, WHITE))


def mute() -> None:
    """From now on this process neither prints nor writes results: another one does."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    _quiet.append(True)


def muted() -> bool:
    """Whether another process prints and writes."""
    return bool(_quiet)


def fail(message: str) -> NoReturn:
    """Prints one message for a known mistake and exits with 2."""
    stderr.print(labelled("error", "bold red", f" {readable(redact(message))}"), soft_wrap=True)
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
    # Python's JSON has escapes of all that is none to look at; Pydantic's does not, and its escapes mean the same.
    text = _JSON_UNSAFE.sub(lambda sign: json.dumps(sign[0])[1:-1], text)
    if target == "-":
        print(text)
        return
    write_text(target, text + "\n")
