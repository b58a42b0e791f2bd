"""What a recipe may hold at most: size, depth, numbers, text; the same for YAML, JSON and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FieldPath = tuple[str | int, ...]

LARGEST_RECIPE = 1_000_000
"""Signs of a file."""
MOST_NODES = 100_000
"""Keys, values and lists of a file, those that aliases stand for included."""
DEEPEST = 30
"""Levels of mappings and lists."""
MOST_DIGITS = 100
"""Digits of a whole number."""
LONGEST_TEXT = 10_000
"""Signs of one text."""
LONGEST_LIST = 1_000
"""Rules of a variant, globs of a rule ..."""
LARGEST_MAPPING = 5_000
"""Variants, schemes, keys that are none."""
MOST_RULES_APPLIED = 10_000
"""Rules of all variants, those of schemes and `from` chains counted for each: each goes through a model's layers."""

TOO_DEEP = f"is nested deeper than {DEEPEST} levels; a recipe needs fewer than ten."
TOO_MANY = f"unfolds to more than {MOST_NODES:,} nodes or without end. Write it without aliases."
_TOO_LARGE = 10**MOST_DIGITS


def oversized(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields the path of what no recipe may hold, and what is wrong with it; what comes after may be anything.

    Args:
        data: plain values, in which models may stand; a mapping or list may hold itself.

    Example:
        >>> list(oversized({"version": 10**200}))
        [(('version',), 'is a whole number of more than 100 digits')]
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    seen = 0
    while waiting:
        path, value = waiting.pop()
        seen += 1
        if len(path) > DEEPEST or seen > MOST_NODES:
            yield (path, TOO_DEEP) if len(path) > DEEPEST else ((), TOO_MANY)
            return
        if fault := _fault(value):
            yield path, fault
        if isinstance(value, dict):
            unsound = next((key for key in value if not isinstance(key, str) or not is_sound(key)), None)
            if unsound is not None:
                yield path, f"has the key {ascii(unsound)[:60]}, which is no text"
            waiting += [((*path, key), item) for key, item in value.items() if isinstance(key, str)]
        elif isinstance(value, list | tuple):
            waiting += [((*path, n), item) for n, item in enumerate(value)]


def is_sound(text: str) -> bool:
    r"""Whether a text can be written to a file: JSON's escapes may make half a character, a lone surrogate.

    Example:
        >>> is_sound("\U0001f600"), is_sound("\ud83d")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(value: Any) -> str | None:
    if isinstance(value, int) and not -_TOO_LARGE < value < _TOO_LARGE:
        return f"is a whole number of more than {MOST_DIGITS} digits"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"is a text of {len(value):,} signs; at most {LONGEST_TEXT:,} are taken"
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"is a list of {len(value):,}; at most {LONGEST_LIST:,} are taken. Write a glob for many layers."
    if isinstance(value, dict) and len(value) > LARGEST_MAPPING:
        return f"is a mapping of {len(value):,} keys; at most {LARGEST_MAPPING:,} are taken"
    if isinstance(value, str) and not is_sound(value):
        return "holds half a character (a lone surrogate), which can't be written to a file"
    return None


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """Returns what is read of a place where a mapping belongs: it, or an empty one for anything else.

    Example:
        >>> mapping_or_empty({"a": 1}), mapping_or_empty("a")
        ({'a': 1}, {})
    """
    return value if isinstance(value, Mapping) else {}
