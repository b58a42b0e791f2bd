"""The values of tensors as histograms, with the range of each variant below: a small picture a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qzoo.report.html.blocks import Chart, Charts
from qzoo.report.html.charts.canvas import FILL, FIRST, INK, MARKERS, QUIET, SECOND, drawing, finished, label, quiet
from qzoo.results.details import QuantizerDetail, SeenValues

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 60
"""Pictures, of some kB each."""
WIDTH, HISTOGRAM, ROW, AROUND = 3.3, 0.75, 0.13, 0.4
MARGINS = (0.95, 0.24, 0.08, 0.04)
"""Inches."""


def tensor_charts(quantizers: Mapping[str, Sequence[QuantizerDetail]], seen_on: str) -> tuple[Charts | None, int]:
    """Returns histograms of the activations, in the order in which they pass; and how many more there are.

    Args:
        quantizers: by variant.
        seen_on: where the histograms come from.
    """
    by_path: dict[str, dict[str, QuantizerDetail]] = {}
    for variant, details in quantizers.items():
        for one in details:
            if one.of == "activation" and one.seen is not None:
                by_path.setdefault(one.path, {})[variant] = one
    chosen = _most_telling(by_path)
    if not chosen:
        return None, 0
    title = f"Values of {_count(len(chosen))} on {seen_on}, and the range of each variant"
    note = (
        "Bars: how many values, on a logarithmic scale. Lines below: from the smallest to the largest value that a "
        "variant represents; what lies beyond its ends is clipped, and one that runs out of "
        "the picture goes on. Ticks on the axis: smallest and largest value."
    )
    return Charts(title, [_chart(path, by_path[path]) for path in chosen], note), len(by_path) - len(chosen)


def _count(tensors: int) -> str:
    return "a tensor" if tensors == 1 else f"{tensors} tensors"


def _most_telling(by_path: Mapping[str, Mapping[str, QuantizerDetail]]) -> list[str]:
    """Returns the paths that are drawn, in their order: where too many, those that are clipped most."""
    clipped = {path: max(one.clipped or 0.0 for one in variants.values()) for path, variants in by_path.items()}
    chosen = sorted(by_path, key=lambda path: -clipped[path])[:MOST_DRAWN]
    return [path for path in by_path if path in chosen]


def _chart(path: str, variants: Mapping[str, QuantizerDetail]) -> Chart:
    seen = next(one.seen for one in variants.values() if one.seen is not None)
    name = path.removesuffix("_quantizer")
    height = AROUND + HISTOGRAM + ROW * len(variants)
    with drawing(WIDTH, height, margins=MARGINS) as figure:
        above, below = figure.subplots(
            2, 1, sharex=True, height_ratios=[HISTOGRAM, ROW * len(variants) + 0.06], gridspec_kw={"hspace": 0.06}
        )
        _draw_values(above, seen)
        _draw_ranges(below, variants)
        low, high = _span(seen, variants)
        below.set_xlim(low, high)
        below.locator_params(axis="x", nbins=5)
        return finished(figure, label(name), _words(name, seen, variants), _note(seen, variants))


def _draw_values(axes: Axes, seen: SeenValues) -> None:
    axes.stairs(seen.counts, seen.edges, fill=True, color=FILL, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_yticks([])
    axes.minorticks_off()
    for end in (seen.low, seen.high):
        axes.plot([end, end], [0, 0.1], color=INK, linewidth=1, transform=axes.get_xaxis_transform())
    quiet(axes, "left")


def _draw_ranges(axes: Axes, variants: Mapping[str, QuantizerDetail]) -> None:
    for place, one in enumerate(variants.values()):
        color, marker = (FIRST, SECOND)[place % 2], MARKERS[place % len(MARKERS)]
        axes.plot(one.range, [place, place], marker=marker, color=color, markersize=3.2, linewidth=1.1)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_yticks(range(len(variants)), [label(name, 14) for name in variants], fontsize=7.5)
    axes.tick_params(axis="x", labelsize=7.5, labelcolor=QUIET)
    quiet(axes, "left", "bottom")


def _span(seen: SeenValues, variants: Mapping[str, QuantizerDetail]) -> tuple[float, float]:
    """Returns what is shown: all values, and of ranges as much as is not far beyond them."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    wide = high - low or 1.0
    ends = [end for one in variants.values() for end in one.range]
    return max(min(low, *ends), low - wide / 3) - wide / 30, min(max(high, *ends), high + wide / 3) + wide / 30


def _note(seen: SeenValues, variants: Mapping[str, QuantizerDetail]) -> str:
    worst = max(variants, key=lambda name: variants[name].clipped or 0.0)
    share = variants[worst].clipped or 0.0
    of = f" at most ({label(worst, 14)})" if len(variants) > 1 else ""
    clipped = "nothing clipped" if share == 0 else f"{percent(share)} clipped{of}"
    return f"{seen.low:.3g} to {seen.high:.3g}; {clipped}"


def percent(share: float) -> str:
    """Returns a share in percent as text, so that what is not nothing does not read as nothing.

    Example:
        >>> percent(0.1234), percent(0.0004)
        ('0.123 %', '<0.001 %')
    """
    return "0 %" if share == 0 else "<0.001 %" if share < 0.001 else f"{share:.3g} %"


def _words(name: str, seen: SeenValues, variants: Mapping[str, QuantizerDetail]) -> str:
    ranges = [
        f"{variant} {one.range[0]:.3g} to {one.range[1]:.3g}, {percent(one.clipped or 0.0)} clipped"
        for variant, one in variants.items()
    ]
    return f"Histogram of {name}: values from {seen.low:.3g} to {seen.high:.3g}. Ranges: {'; '.join(ranges)}."
