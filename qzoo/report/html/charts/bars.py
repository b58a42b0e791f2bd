"""Rows of bars, and rows of two points that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qzoo.report.html.blocks import Chart
from qzoo.report.html.charts.canvas import FILL, FIRST, INK, QUIET, SECOND, drawing, finished, label, quiet

ROW, AROUND = 0.25, 0.8
"""Inches: of a row; of axis and margins."""


class Bar(NamedTuple):
    """A row with a bar.

    Attributes:
        name: what it is of.
        value: its length.
        text: what stands at its end.
        marked: it is hatched.
        whiskers: from where to where the value was measured.
    """

    name: str
    value: float
    text: str
    marked: bool = False
    whiskers: tuple[float, float] | None = None

    @property
    def end(self) -> float:
        """How far the row reaches."""
        return self.value if self.whiskers is None else max(self.value, *self.whiskers)


def bar_chart(title: str, bars: Sequence[Bar], axis: str, note: str = "") -> Chart:
    """Returns a chart of bars, from top to bottom."""
    with drawing(9.2, AROUND + ROW * len(bars)) as figure:
        axes = figure.subplots()
        far = max((bar.end for bar in bars), default=0.0) or 1.0
        for place, bar in enumerate(bars):
            axes.barh(place, bar.value, height=0.68, color=FILL, hatch="////" if bar.marked else None, edgecolor=FIRST,
                      linewidth=0.6)  # fmt: skip
            if bar.whiskers is not None:
                axes.hlines(place, *bar.whiskers, color=INK, linewidth=1.2)
            axes.annotate(bar.text, (bar.end, place), xytext=(5, 0), textcoords="offset points", va="center", color=INK)
        axes.set_xlim(0, far * 1.16)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_yticks(range(len(bars)), [label(bar.name) for bar in bars])
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        quiet(axes, "left")
        told = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
        return finished(figure, title, f"{axis}. {told}.", note)


class Pair(NamedTuple):
    """A row with two values.

    Attributes:
        name: what they are of.
        first: an open circle.
        second: a filled square.
    """

    name: str
    first: float
    second: float


def pair_chart(title: str, pairs: Sequence[Pair], axis: str, names: tuple[str, str], *, log: bool = False) -> Chart:
    """Returns a chart of pairs, from top to bottom, joined by lines.

    Args:
        title: what it shows.
        pairs: the rows.
        axis: what the values are.
        names: of the first and the second value.
        log: the axis is logarithmic; all values are above 0.
    """
    with drawing(9.2, AROUND + ROW * len(pairs)) as figure:
        axes = figure.subplots()
        for place, pair in enumerate(pairs):
            axes.plot([pair.first, pair.second], [place, place], color=QUIET, linewidth=1.2, zorder=1)
            axes.plot(pair.first, place, "o", color=SECOND, markerfacecolor="none", markersize=6)
            axes.plot(pair.second, place, "s", color=FIRST, markersize=5)
        if log:
            axes.set_xscale("log")
            # As a power of ten it would be mathematics, which is not parsed.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_yticks(range(len(pairs)), [label(pair.name) for pair in pairs])
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        quiet(axes, "left")
        told = "; ".join(f"{pair.name}: {pair.first:.3g} and {pair.second:.3g}" for pair in pairs)
        note = f"Open circle: {names[0]}; filled square: {names[1]}."
        return finished(figure, title, f"{axis}, {names[0]} and {names[1]}. {told}.", note)
