"""Which rows of the zoo's table are wanted, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qzoo.errors import ArgumentError, UnknownNameError, did_you_mean, shown
from qzoo.results.zoo import ZooRow
from qzoo.runtimes.registry import runtime_named


@dataclass(frozen=True)
class Column:
    """A column to sort by.

    Attributes:
        value: of a row; None where it is not known, which comes last.
        largest_first: whether more is better.
    """

    value: Callable[[ZooRow], float | str | None]
    largest_first: bool = False


COLUMNS = {
    "name": Column(lambda row: row.name),
    "top1": Column(lambda row: row.comparable_top1, largest_first=True),
    "drop": Column(lambda row: row.drop),
    "bits": Column(lambda row: row.bits),
    "size": Column(lambda row: row.bytes),
    "rel": Column(lambda row: row.relative_size),
    "macs": Column(lambda row: row.macs),
    "params": Column(lambda row: row.parameters),
    "int": Column(lambda row: row.integer_share, largest_first=True),
    "latency": Column(lambda row: row.latency_ms),
}
"""By what people type, the best first."""


@dataclass(frozen=True)
class Selection:
    """What rows have to have, see `qzoo.zoo_table`."""

    pretrained: bool = False
    dataset: str | None = None
    min_top1: float | None = None
    max_size: float | None = None
    target: str | None = None
    sort: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is asked for."""
        return self == Selection()


def selected(rows: Sequence[ZooRow], wanted: Selection) -> list[ZooRow]:
    """Returns the rows that have what is asked for; what is not known of a row, it has not.

    Args:
        rows: all.
        wanted: what is asked for.

    Raises:
        UnknownNameError: no recipe is of such a dataset, or there is no such runtime; with the nearest names.
        ArgumentError: a limit is none that any row could be held against.
    """
    _check(rows, wanted)
    return [row for row in rows if _fits(row, wanted)]


def _fits(row: ZooRow, wanted: Selection) -> bool:
    return (
        (not wanted.pretrained or row.ranges_at is not None)
        and wanted.dataset in (None, row.dataset)
        and (wanted.min_top1 is None or (row.comparable_top1 or 0.0) >= wanted.min_top1)
        and (wanted.max_size is None or (row.megabytes is not None and row.megabytes <= wanted.max_size))
        and (wanted.target is None or wanted.target in row.targets)
    )


def _check(rows: Sequence[ZooRow], wanted: Selection) -> None:
    if wanted.target is not None:
        runtime_named(wanted.target)
    if wanted.sort is not None and wanted.sort not in COLUMNS:
        raise UnknownNameError(f"There is no column '{shown(wanted.sort)}'. {did_you_mean(wanted.sort, COLUMNS)}")
    datasets = {row.dataset for row in rows}
    if wanted.dataset is not None and wanted.dataset not in datasets:
        advice = did_you_mean(wanted.dataset, datasets)
        raise UnknownNameError(f"No recipe is of a dataset '{shown(wanted.dataset)}'. {advice}")
    if wanted.min_top1 is not None and not 0 <= wanted.min_top1 <= 100:
        raise ArgumentError(f"A top-1 of at least {wanted.min_top1:g} is none: give percent, from 0 to 100.")
    if wanted.max_size is not None and not wanted.max_size > 0:
        raise ArgumentError(f"A size of at most {wanted.max_size:g} MB is none: give one above 0.")


def in_order(rows: Sequence[ZooRow], column: str | None) -> list[ZooRow]:
    """Returns rows sorted by a column, the best first, those of which it is not known last; without one as they are.

    Args:
        rows: in the order that equals keep.
        column: of `COLUMNS`.
    """
    if column is None:
        return list(rows)
    by = COLUMNS[column]
    known = [row for row in rows if by.value(row) is not None]
    ordered = sorted(known, key=by.value, reverse=by.largest_first)  # type: ignore[arg-type]
    return [*ordered, *(row for row in rows if by.value(row) is None)]
