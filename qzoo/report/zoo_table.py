"""The zoo's table on a terminal: as many columns as fit, and no name is ever cut.

Lines are plain text: a table of Rich's cuts or wraps what is wider than the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from qzoo.errors import LONGEST_NAME, shown
from qzoo.results.zoo import Latency, Standing, ZooRow

GAP = 2
"""Signs between two columns."""
MARKS: dict[Standing | None, str] = {"published": "*", "own": "*", "partial": "~"}
EXPLAINED = {
    "*": "as published, or as a run of ours that the recipe states; all others are measured, with a receipt",
    "~": "on a part of the images: only the drop compares",
}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: its words.
        cell: what it shows of a row.
        left: flush left.
    """

    heading: str
    cell: Callable[[ZooRow], str]
    left: bool = False


def top1(row: ZooRow) -> str:
    """Returns the accuracy of a row, with the mark of where it comes from."""
    return "" if row.top1 is None else f"{row.top1:.2f}{MARKS.get(row.standing, '')}"


def drop(row: ZooRow) -> str:
    """Returns how far a row lies below its base."""
    return "" if row.drop is None else f"{row.drop:+.2f}"


def size(row: ZooRow) -> str:
    """Returns the megabytes of a row."""
    return "" if row.megabytes is None else _three_digits(row.megabytes)


def origin(row: ZooRow) -> str:
    """Returns what the ranges of a variant are made from, and where they lie: `images, shipped`."""
    return ", ".join(word for word in (row.ranges, row.ranges_at) if word)


def _three_digits(value: float) -> str:
    """Returns a figure with three digits that count.

    Example:
        >>> _three_digits(346.27), _three_digits(4.652), _three_digits(0.0794)
        ('346', '4.65', '0.079')
    """
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _of(value: float | None, unit: float = 1.0) -> str:
    return "" if value is None else _three_digits(value / unit)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"


def _latency(row: ZooRow) -> str:
    return _of(row.latency_ms)


NAME = Column("name", lambda row: row.name, left=True)
OF_VARIANTS = [
    NAME,
    Column("top-1", top1),
    Column("drop", drop),
    Column("bits", lambda row: "" if row.bits is None else f"{row.bits:.3g}"),
    Column("MB", size),
    Column("ranges", lambda row: row.ranges or row.ranges_at or "", left=True),
    Column("of float", lambda row: _percent(row.relative_size)),
    Column("M params", lambda row: _of(row.parameters, 1e6)),
    Column("G MACs", lambda row: _of(row.macs, 1e9)),
    Column("int", lambda row: _percent(row.integer_share)),
    Column("ms", _latency),
    Column("dataset", lambda row: shown(row.dataset, LONGEST_NAME), left=True),
    Column("where", lambda row: row.ranges_at or "", left=True),
]
"""The most important ones first."""


def variants_table(rows: Sequence[ZooRow], width: int | None) -> Iterator[str]:
    """Yields the lines of a table, the headings first: a line for each row.

    Args:
        rows: bases and variants.
        width: of the terminal, in signs; None for all columns.
    """
    return _table([(column, [column.cell(row) for row in rows]) for column in OF_VARIANTS], width)


def bases_table(rows: Sequence[ZooRow], width: int | None) -> Iterator[str]:
    """Yields the lines of a table, the headings first: a line for each base, with what is known of its `int8`.

    Args:
        rows: all, the variants of a base after it.
        width: of the terminal, in signs; None for all columns.
    """
    bases = [row for row in rows if row.variant is None]
    int8 = {row.base: row for row in rows if row.variant == "int8"}
    variants = Counter(row.base for row in rows if row.variant is not None)

    def of_int8(cell: Callable[[ZooRow], str]) -> Callable[[ZooRow], str]:
        return lambda base: cell(int8[base.name]) if base.name in int8 else ""

    columns = [
        Column("base", lambda row: row.name, left=True),
        Column("dataset", lambda row: shown(row.dataset, LONGEST_NAME), left=True),
        Column("float", top1),
        Column("int8", of_int8(top1)),
        Column("drop", of_int8(drop)),
        Column("int8 MB", of_int8(size)),
        Column("vars", lambda row: str(variants[row.name])),
        Column("of float", of_int8(lambda row: _percent(row.relative_size))),
        Column("M params", lambda row: _of(row.parameters, 1e6)),
        Column("G MACs", lambda row: _of(row.macs, 1e9)),
        Column("ms", of_int8(_latency)),
        Column("ranges", of_int8(origin), left=True),
    ]
    return _table([(column, [column.cell(base) for base in bases]) for column in columns], width)


def _table(columns: Sequence[tuple[Column, list[str]]], width: int | None) -> Iterator[str]:
    fitting = [(column, [column.heading, *cells]) for column, cells in _fitting(columns, width)]
    padded = [[_padded(cell, max(map(cell_len, cells)), column.left) for cell in cells] for column, cells in fitting]
    yield from ((" " * GAP).join(cells).rstrip() for cells in zip(*padded, strict=True))


def _padded(cell: str, width: int, left: bool) -> str:
    room = " " * (width - cell_len(cell))
    return cell + room if left else room + cell


def _fitting(columns: Sequence[tuple[Column, list[str]]], width: int | None) -> Iterator[tuple[Column, list[str]]]:
    """Yields the columns that have something to show, as far as the width goes; the first one always."""
    used = -GAP
    for number, (column, cells) in enumerate(columns):
        if number and not any(cells):
            continue
        wide = max(map(cell_len, [column.heading, *cells])) + GAP
        if number and width is not None and used + wide > width:
            return
        used += wide
        yield column, cells


def legend(rows: Sequence[ZooRow]) -> Iterator[str]:
    """Yields what the marks of the shown rows mean, and on which machine which latencies were measured."""
    found = {MARKS.get(row.standing, "") for row in rows}
    yield from (f"{mark} {text}" for mark, text in EXPLAINED.items() if mark in found)
    fastest = [min(_single(row), key=lambda one: one.ms) for row in rows if _single(row)]
    for where in dict.fromkeys(measured_on(one) for one in fastest):
        yield f"ms: one image, {where}"


def _single(row: ZooRow) -> list[Latency]:
    return [one for one in row.latency if one.batch == 1]


def measured_on(one: Latency) -> str:
    """Returns runtime, processor and day of a latency."""
    day = f", {one.date}" if one.date else ""
    return f"{one.runtime}, {one.threads} thread{'s' if one.threads > 1 else ''}, {one.cpu}{day}"
