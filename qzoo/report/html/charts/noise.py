"""Noise along a network: of each quantizer alone, and of all of them up to there. A small picture a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qzoo.report.html.blocks import Chart, Charts
from qzoo.report.html.charts.canvas import FIRST, INK, QUIET, SECOND, drawing, finished, label, quiet
from qzoo.results.details import QuantizerDetail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 36
"""Quantizers whose names fit below an axis."""
MARGINS = (0.35, 0.25, 0.05, 0.1)
"""Inches, of a small picture."""
NOTE = (
    "Signal to quantization noise (SQNR) in dB; higher is better, and 6 dB are a bit. Line: the tensor as it is held "
    "against float, with the noise of all quantizers before it. Hollow dots: what the quantizer of the activation does "
    "alone; squares: the quantizer of the weight alone."
)


def noise_charts(quantizers: Mapping[str, Sequence[QuantizerDetail]], images: int) -> Charts | Chart | None:
    """Returns a chart for each variant; None where nothing was measured.

    Args:
        quantizers: by variant, in the order in which tensors pass them.
        images: that it was measured on.
    """
    measured = {name: one for name, one in quantizers.items() if any(each.own_sqnr_db is not None for each in one)}
    if not measured:
        return None
    title = f"Noise along the network, on {images} images"
    if len(measured) == 1:
        (details,) = measured.values()
        return _chart(title, details, 9.2, NOTE, named=len(details) <= MOST_NAMED)
    ends = [value for details in measured.values() for one in details for value in _values(one)]
    low, high = min(ends), max(ends)
    charts = [_chart(label(name), details, 3.3, _worst(details), (low, high)) for name, details in measured.items()]
    return Charts(title, charts, NOTE)


def _values(one: QuantizerDetail) -> list[float]:
    return [value for value in (one.own_sqnr_db, one.sqnr_db) if value is not None]


def _chart(
    title: str, details: Sequence[QuantizerDetail], width: float, note: str,
    span: tuple[float, float] | None = None, *, named: bool = False,
) -> Chart:  # fmt: skip
    with drawing(width, 3.6 if named else 1.9, margins=None if named else MARGINS) as figure:
        axes = figure.subplots()
        _draw(axes, details)
        if span is not None:
            axes.set_ylim(min(0.0, span[0]) - 1, span[1] + 3)
        else:
            axes.set_ylim(bottom=axes.get_ylim()[0] - 3)
        axes.set_xlim(-0.8, len(details) - 0.2)
        axes.grid(axis="y")
        quiet(axes, "left")
        if named:
            axes.set_ylabel("SQNR, dB")
            names = [label(one.path.removesuffix("_quantizer"), 28) for one in details]
            axes.set_xticks(range(len(details)), names, rotation=90, fontsize=7.5)
        else:
            axes.set_xticks([])
            axes.set_xlabel("input to output", fontsize=8, loc="right")
        return finished(figure, title, f"{_worst(details)}.", note)


def _draw(axes: Axes, details: Sequence[QuantizerDetail]) -> None:
    line = [(place, one.sqnr_db) for place, one in enumerate(details) if one.sqnr_db is not None]
    if line:
        axes.plot(*zip(*line, strict=True), "-", color=FIRST, linewidth=1.6)
        axes.plot(*zip(*line, strict=True), ".", color=FIRST, markersize=4)
    for of, marker, color in (("activation", "o", QUIET), ("weight", "s", SECOND)):
        own = [
            (place, one.own_sqnr_db)
            for place, one in enumerate(details)
            if one.of == of and one.own_sqnr_db is not None
        ]
        if own:
            axes.plot(*zip(*own, strict=True), marker, color=color, markerfacecolor="none", markersize=3.6, zorder=1)
    if line:
        place, worst = min(line, key=lambda point: point[1])
        side = _side(place, len(details))
        axes.annotate(
            f"{worst:.1f}", (place, worst), xytext=(0, -4), textcoords="offset points", ha=side, va="top",
            fontsize=8.5, color=INK, fontweight="bold",
        )  # fmt: skip


def _side(place: int, places: int) -> str:
    """Returns where a label hangs, so that it stays inside the picture."""
    return "left" if place < places / 10 else "right" if place > 0.9 * places else "center"


def _worst(details: Sequence[QuantizerDetail]) -> str:
    line = [one for one in details if one.sqnr_db is not None]
    if not line:
        return "No activation has any noise"
    worst = min(line, key=lambda one: one.sqnr_db or 0.0)
    where = label(worst.path.removesuffix("_quantizer"))
    return f"Least {worst.sqnr_db:.1f} dB, at {where}; {line[-1].sqnr_db:.1f} dB at the last"
