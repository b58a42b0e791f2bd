"""The command that is running, as it was typed: a page says how to get it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_words: list[str] = []


def note(name: str, arguments: Sequence[str]) -> None:
    """Takes note of a command, before its arguments are taken apart."""
    _words[:] = ["qzoo", name, *arguments]


def typed() -> str:
    """Returns the command for a shell; one's home folder as `~`.

    Example:
        >>> note("reproduce", ["my model.yaml", "--only", "int8"])
        >>> typed()
        "qzoo reproduce 'my model.yaml' --only int8"
    """
    return " ".join(map(_quoted, _words))


def _quoted(word: str) -> str:
    home = str(Path.home())
    return f"~{shlex.quote(word[len(home) :])}" if word.startswith(f"{home}/") else shlex.quote(word)
