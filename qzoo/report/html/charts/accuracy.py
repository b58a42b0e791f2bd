"""Top-1 of variants with intervals, beside float and what was published: a dot and whiskers a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qzoo.report.html.blocks import Chart
from qzoo.report.html.charts.canvas import FIRST, INK, QUIET, SECOND, drawing, finished, label, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, AROUND = 0.3, 0.85
"""Inches: of a row; of axis and legend."""
NOTE = (
    "Dot: measured, with its 95 % interval. Dashed line: float, on the same images. Diamond: published, or our own "
    "earlier run, with its tolerance; triangle: published as a lower bound."
)


class Claimed(NamedTuple):
    """A claim on a figure.

    Attributes:
        top1: in percent.
        tolerance: points; None where the claim is a lower bound.
    """

    top1: float
    tolerance: float | None


class Measured(NamedTuple):
    """A row.

    Attributes:
        name: of the variant.
        top1: in percent.
        ci95: in percent.
        claims: what is said of it elsewhere.
    """

    name: str
    top1: float
    ci95: tuple[float, float]
    claims: tuple[Claimed, ...] = ()


def accuracy_chart(rows: list[Measured]) -> Chart:
    """Returns the chart of some models, float first."""
    with drawing(9.2, AROUND + ROW * len(rows)) as figure:
        axes = figure.subplots()
        for place, row in enumerate(rows):
            _draw(axes, place, row, is_float=place == 0)
        axes.axvline(rows[0].top1, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        low, high = _span(rows)
        axes.set_xlim(low, high)
        _notes(axes, rows)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [label(row.name) for row in rows])
        axes.set_xlabel("top-1, percent")
        axes.grid(axis="x")
        quiet(axes, "left")
        return finished(figure, "Top-1 beside float and published", _words(rows), NOTE)


def _draw(axes: Axes, place: int, row: Measured, is_float: bool) -> None:
    low, high = row.ci95
    axes.hlines(place, low, high, color=FIRST if not is_float else QUIET, linewidth=1.6)
    axes.vlines([low, high], place - 0.12, place + 0.12, color=FIRST if not is_float else QUIET, linewidth=1.6)
    axes.plot(row.top1, place, "o", color=INK if is_float else FIRST, markersize=6.5, zorder=3)
    for claim in row.claims:
        if claim.tolerance:
            axes.hlines(
                place + 0.24, claim.top1 - claim.tolerance, claim.top1 + claim.tolerance, color=SECOND, linewidth=1.2
            )
        marker = "D" if claim.tolerance is not None else ">"
        axes.plot(claim.top1, place + 0.24, marker, color=SECOND, markerfacecolor="none", markersize=4.5, zorder=4)


def _notes(axes: Axes, rows: list[Measured]) -> None:
    """Writes the figures at the end of each row, where nothing else is."""
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row.top1:.2f}", (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK, annotation_clip=False,
        )  # fmt: skip


def _span(rows: list[Measured]) -> tuple[float, float]:
    """Returns which percents are shown: all that was measured; claims that are far away are named in the table."""
    ends = [end for row in rows for end in row.ci95]
    low, high = min(ends), max(ends)
    around = max(0.04 * (high - low), 0.05)
    near = [claim.top1 for row in rows for claim in row.claims if low - (high - low) < claim.top1 < high + (high - low)]
    return max(min(low, *near, low) - around, -1.0), min(max(high, *near, high) + around, 100.6)


def _words(rows: list[Measured]) -> str:
    told = [f"{row.name} {row.top1:.2f} ({row.ci95[0]:.2f} to {row.ci95[1]:.2f})" for row in rows]
    return f"Top-1 in percent, with 95 % intervals: {'; '.join(told)}."
