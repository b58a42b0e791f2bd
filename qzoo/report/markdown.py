"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from qzoo.errors import RecipeError, escaped, shown

LONGEST = 10_000
"""Signs of a text that somebody wrote."""
_ACTIVE = re.compile(r"([\\`<\[])")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Returns a table; a heading that begins with `>` makes a column of figures, flush right.

    Example:
        >>> print(table(["name", ">top-1"], [["a|b", "76.10"]]))
        | name | top-1 |
        |---|---:|
        | a\|b | 76.10 |
    """
    lines = [
        [heading.removeprefix(">") for heading in headings],
        *([cell(text) for text in row] for row in rows),
    ]
    rows_of_text = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|".join("---:" if heading.startswith(">") else "---" for heading in headings)
    return "\n".join([rows_of_text[0], f"|{rule}|", *rows_of_text[1:]])


def cell(text: str) -> str:
    """Returns a text that does not break the table it stands in."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def plain(text: str) -> str:
    r"""Returns what somebody wrote elsewhere as text of one line: no code, link, image or HTML comes of it.

    Example:
        >>> print(plain("`c` <img> [d](e)"))
        \`c\` \<img> \[d](e)
    """
    line = _ACTIVE.sub(r"\\\1", shown(" ".join(text.split()), LONGEST))
    # At the beginning of a paragraph these make a heading, a list, a quotation.
    return f"\\{line}" if line.startswith(("#", "-", "+", "*", ">", "=", "~")) else line


def code(text: str) -> str:
    """Returns a name as code on one line, which nothing in it ends.

    Example:
        >>> code("a`b")
        "`a'b`"
    """
    return "`" + shown(text).replace("`", "'") + "`"


def fenced(text: str, language: str) -> str:
    """Returns a block of code, with a fence that nothing inside closes."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def listed(words: Sequence[str]) -> str:
    """Returns words as a sentence lists them.

    Example:
        >>> listed(["int8", "fp8", "float"])
        'int8, fp8 and float'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def placed(path: Path, begin: str, end: str, content: str) -> str:
    """Returns a file's text with what stands between two markers made anew; the file is not written.

    Raises:
        RecipeError: the file has no such markers.
    """
    before, found, after = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = after.partition(end)
    if not found or not ended:
        raise RecipeError(f"{path} has no place for the table. It goes between {begin} and {end}.")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
