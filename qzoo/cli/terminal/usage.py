"""What is typed after a command: `--json` with a file or without, and mistakes, told with what was given and is meant.

`--json` alone prints. The word after it is its file only where it can be nothing else: `-`, a name that ends with
`.json`, or a stream such as `/dev/stdout`. So no command takes its own argument for a file, and writes over a recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from qzoo.errors import did_you_mean, nearest, shown
from qzoo.files import is_stream

JSON = "--json"
STDOUT = "-"
MOST_OPTIONS = 30
UsageError: Any = typer.BadParameter.__base__
"""What any mistake in what is typed is; the library gives it no public name."""


def with_json_file(words: Sequence[str]) -> list[str]:
    """Returns the words after a command with the file of each `--json` attached to it: `--json=-` where none is given.

    Example:
        >>> with_json_file(["resnet8_digits_int8", "--json"])
        ['resnet8_digits_int8', '--json=-']
        >>> with_json_file(["--json", "resnet*"]), with_json_file(["--json", "report.json"])
        (['--json=-', 'resnet*'], ['--json=report.json'])
    """
    attached: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*attached, word, *left]
        if attached and attached[-1] == JSON:
            attached[-1] = f"{JSON}={word if _is_file(word) else STDOUT}"
            if _is_file(word):
                continue
        attached.append(word)
    return [f"{JSON}={STDOUT}" if word == JSON else word for word in attached]


def _is_file(word: str) -> bool:
    return word == STDOUT or (not word.startswith("-") and (word.endswith(".json") or is_stream(Path(word))))


@contextmanager
def plain_mistakes(words: Sequence[str], options: Sequence[str]) -> Iterator[None]:
    """Tells mistakes in what is typed with what was given, what is meant, and the nearest name.

    Args:
        words: what was typed after the command.
        options: that it takes.

    Raises:
        UsageError: in place of another.
    """
    try:
        yield
    except UsageError as error:
        message = _plain(error, words, options)
        if message is None:
            raise
        raise UsageError(message, error.ctx) from None


def _plain(error: Any, words: Sequence[str], options: Sequence[str]) -> str | None:
    """Returns a better message, or None where the library's own is as good."""
    param = getattr(error, "param", None)
    if hasattr(error, "param_type"):  # an argument or an option is missing
        meant = getattr(param, "help", None)
        return f"{error.format_message().rstrip('.')}: {meant}" if meant else None
    if hasattr(error, "possibilities"):
        near = nearest(error.option_name, options)
        advice = f"Did you mean '{near[0]}'?" if near else did_you_mean(error.option_name, options, MOST_OPTIONS)
        return f"No such option: {shown(error.option_name)}. {advice}"
    if param is not None and (given := _given(param.opts, words)) is not None:
        said = error.format_message().replace("Value error, ", "").rstrip(".")
        return said if repr(given) in said else f"{said} (given: {shown(given)!r})"
    if "extra argument" in error.message and any(word.startswith(f"{JSON}=") for word in words):
        return f"{error.message}. A FILE after {JSON} ends with .json; one of another name: {JSON}=FILE"
    return None


def _given(spellings: Sequence[str], words: Sequence[str]) -> str | None:
    """Returns what was given for an option, if it was given as a word of its own or after `=`."""
    for place, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name in spellings and name.startswith("-"):
            return value if sign else next(iter(words[place + 1 :]), None)
    return None
