"""Results as people read them: a block of text where they are printed, tables in a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

MOST_ROWS = 12
LONGEST = 60
"""Signs of a value; of digests 12 tell one from another."""
LONGEST_LINE = 100
"""Signs of a result that stands in another, in one line."""


class Readable:
    """Mixed into a result, in front of what prints it otherwise: a line for each value, a table for each list of rows.

    What is large, such as the predictions of all images, is told by its type and shape; the attributes have it.

    Example:
        >>> class Row(BaseModel):
        ...     name: str
        ...     top1: float
        >>> class Result(Readable, BaseModel):
        ...     images: int
        ...     rows: list[Row]
        >>> Result(images=3, rows=[Row(name="int8", top1=66.67)])
        Result
          images: 3
          rows: name  top1
                int8  66.67
    """

    also_shown: ClassVar[tuple[str, ...]] = ()
    """Properties that are shown like fields. A row may have `not_shown`: fields that only repeat others."""

    def __repr__(self) -> str:
        lines = [type(self).__name__]
        for name, value in values_of(self):
            rows = _rows(value)
            lead = f"  {name}: "
            if rows:
                lines += [lead + rows[0], *(" " * len(lead) + row for row in rows[1:])]
            elif (text := _text(name, value)) is not None:
                lines.append(lead + text)
        return "\n".join(lines)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Returns the same for a notebook."""
        cells = []
        for name, value in values_of(self):
            table, text = _table(value), _text(name, value)
            inner = _html(table) if table else escape(text or "")
            if inner:
                cells.append(f"<tr><th>{escape(name)}</th><td>{inner}</td></tr>")
        return f"<table><caption>{type(self).__name__}</caption>{''.join(cells)}</table>"


def values_of(result: Any) -> list[tuple[str, Any]]:
    """Returns the fields of a pydantic model or a dataclass, and the properties in `also_shown`, in their order."""
    is_model = isinstance(result, BaseModel)
    fields = type(result).model_fields if is_model else [one.name for one in dataclasses.fields(result)]
    hidden, more = getattr(result, "not_shown", ()), getattr(result, "also_shown", ())
    return [(name, getattr(result, name)) for name in (*fields, *more) if name not in hidden]


def _text(name: str, value: Any, *, inside: bool = False) -> str | None:
    """Returns a value in a few signs; None for what is absent or large.

    Args:
        name: the name of the field.
        value: plain, or a result.
        inside: the field is that of a result in a result, of which no further ones are shown.
    """
    if isinstance(value, bool | int | Path):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return _cut(value, 12 if name.endswith("sha256") else LONGEST)
    if isinstance(value, tuple | list):
        return _listed(name, value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return None if inside or not _is_result(value) else _line(value)


def _listed(name: str, values: Sequence[Any]) -> str | None:
    if not values or not all(isinstance(one, str | int | float) for one in values):
        return None
    listed = ", ".join(str(_text(name, one)) for one in values[:MOST_ROWS])
    return listed if len(values) <= MOST_ROWS else f"{listed} and {len(values) - MOST_ROWS} more"


def _line(result: Any) -> str | None:
    if "__str__" in vars(type(result)):  # a specification, a claim, an address: what prints itself in a line
        return _cut(str(result), LONGEST)
    texts = [(name, _text(name, one, inside=True)) for name, one in values_of(result)]
    return _cut(", ".join(f"{name} {text}" for name, text in texts if text is not None), LONGEST_LINE) or None


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _table(value: Any) -> list[list[str]]:
    """Returns the plain values of a list of results, below their names."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value or not _is_result(value[0]):
        return []
    shown = [{name: _text(name, one) for name, one in values_of(row)} for row in value[:MOST_ROWS]]
    names = [name for name in shown[0] if any(row.get(name) is not None for row in shown)]
    return [names, *([row.get(name) or "" for name in names] for row in shown)]


def _is_result(value: Any) -> bool:
    return isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _rows(value: Any) -> list[str]:
    table = _table(value)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    more = len(value) - MOST_ROWS if table else 0
    return [*lines, f"... and {more} more"] if more > 0 else lines


def _html(table: list[list[str]]) -> str:
    head, *rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table]
    return f"<table><tr>{head.replace('td>', 'th>')}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
