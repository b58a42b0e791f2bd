"""What a search measured: points of loss against cost, and the choice for each group along the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qzoo.report.html.blocks import Chart
from qzoo.report.html.charts.canvas import (
    FILL,
    FIRST,
    INK,
    LINE,
    PAPER,
    QUIET,
    SECOND,
    drawing,
    finished,
    label,
    quiet,
)  # fmt: skip
from qzoo.results.search import SearchPoint, SearchReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

COSTS = {
    "bits": "average bits of a weight", "size": "size, share of float", "macs_float": "share of MACs in float",
    "latency": "latency, share of float",
}  # fmt: skip
FILLS = ((FIRST, ""), (FIRST, "...."), (FIRST, "////"), (FILL, ""), (FILL, "////"), (FILL, "xxxx"), (PAPER, ""))
"""Colour and hatch of a candidate, dark ones first; hatches have the colour of paper."""
LEAST_SHOWN = 2.0
"""Points of top-1 that the axis reaches at least."""
POINTS_NOTE = (
    "Each point is measured. Star: the solution; circles: the curve; squares: every group alike. Lines: the paired 95 "
    "% interval, on the same images as float. Joined: points that no other measured point beats in both. Triangles: "
    "points that lose more than the chart reaches."
)
STRIP_NOTE = "From input to output; each row is a way of quantizing, each column a group of layers that move together."


def pareto_chart(report: SearchReport, cost: str) -> Chart | None:
    """Returns the chart of the measured points; None where there is none with this cost."""
    points = [one for one in report.points if cost in one.cost and _loss(one) is not None]
    if not points:
        return None
    with drawing(9.2, 4.4) as figure:
        axes = figure.subplots()
        most = _reach(points)
        front = sorted((one for one in points if one.on_front), key=lambda one: one.cost[cost])
        joined = [(one.cost[cost], _loss(one) or 0.0) for one in front]
        if joined:
            axes.plot(*zip(*joined, strict=True), color=LINE, linewidth=2, zorder=1)
        for place, one in enumerate(points):
            _draw(axes, one, cost, most, is_solution=one is report.points[0], below=place % 2 == 0)
        lowest = min(one.drop_ci95[0] if one.drop_ci95 else _loss(one) or 0.0 for one in points)
        axes.set_ylim(min(lowest, 0.0) - 0.08 * most, most * 1.08)
        axes.set_xlabel(COSTS.get(cost, cost))
        axes.set_ylabel(_axis(report))
        axes.grid(color=LINE)
        axes.margins(x=0.12, y=0.12)
        quiet(axes, "left", "bottom")
        told = "; ".join(f"{one.name}: {one.cost[cost]:.3g}, {_loss(one):.3g}" for one in points)
        return finished(
            figure,
            "Measured: loss against cost",
            f"{COSTS.get(cost, cost)}, then {_axis(report)}. {told}.",
            POINTS_NOTE,
        )


def _reach(points: Sequence[SearchPoint]) -> float:
    """Returns the loss up to which the chart reaches: a point that loses nearly all would hide how others differ."""
    losses = sorted(_loss(one) or 0.0 for one in points)
    usual = 3 * losses[len(losses) // 2]
    return max(LEAST_SHOWN, 1.2 * max((one for one in losses if one <= max(usual, LEAST_SHOWN)), default=0.0))


def _loss(point: SearchPoint) -> float | None:
    if point.drop is not None:
        return point.drop
    return None if point.agreement is None else 100 - point.agreement


def _axis(report: SearchReport) -> str:
    return "points of top-1 lost" if report.float_top1 is not None else "images that flip, percent"


def _draw(axes: Axes, point: SearchPoint, cost: str, most: float, *, is_solution: bool, below: bool) -> None:
    x, loss = point.cost[cost], _loss(point) or 0.0
    y, beyond = min(loss, most), loss > most
    marker = "*" if is_solution else "^" if beyond else "s" if point.name.startswith("uniform") else "o"
    color = SECOND if is_solution else FIRST if point.on_front else QUIET
    if point.drop_ci95 is not None and not beyond:
        axes.vlines(x, *point.drop_ci95, color=color, linewidth=1)
    filled = color if point.on_front or is_solution else PAPER
    axes.plot(x, y, marker, color=color, markerfacecolor=filled, markersize=13 if is_solution else 6, zorder=3)
    # The points of the curve are named by where they stand, and many stand close together.
    name = label(point.name, 24) if is_solution or point.name.startswith("uniform") else ""
    said = f"{name}{f' {loss:.3g}' if beyond else ''}".strip()
    axes.annotate(
        said, (x, y), xytext=(8, -11 if below else 5), textcoords="offset points", fontsize=8.5,
        color=INK if is_solution else QUIET,
    )  # fmt: skip


def choice_strip(report: SearchReport, points: Sequence[SearchPoint]) -> Chart:
    """Returns the choice for each group along the network, a strip for each point."""
    names = [one.name for one in report.candidates]
    groups, looks = report.groups, {name: FILLS[place % len(FILLS)] for place, name in enumerate(names)}
    few = len(groups) <= 40
    with drawing(9.2, 0.6 + 0.34 * len(points) + (1.4 if few else 0.3)) as figure:
        axes = figure.subplots()
        for row, point in enumerate(points):
            for place, group in enumerate(groups):
                color, hatch = looks.get(point.choice.get(group.name, ""), (PAPER, ""))
                axes.barh(row, 0.92, left=place - 0.46, height=0.74, color=color, hatch=hatch or None, edgecolor=QUIET,
                          linewidth=0.5)  # fmt: skip
        keys = [_key(name, *looks[name]) for name in names]
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(names), 6), borderaxespad=0.1)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.set_yticks(range(len(points)), [label(one.name, 22) for one in points])
        named = [label(group.name, 24) for group in groups] if few else []
        axes.set_xticks(range(len(groups)) if few else [], named, rotation=90, fontsize=7.5)
        quiet(axes, "left", "bottom")
        return finished(figure, "The choice for each group of layers", _words(points), STRIP_NOTE)


def _key(name: str, color: str, hatch: str) -> Patch:
    from matplotlib.patches import Patch

    return Patch(facecolor=color, hatch=hatch or None, edgecolor=QUIET, linewidth=0.5, label=label(name, 20))


def _words(points: Sequence[SearchPoint]) -> str:
    return " ".join(
        f"{point.name}: {', '.join(f'{group} {name}' for group, name in point.choice.items())}." for point in points
    )
