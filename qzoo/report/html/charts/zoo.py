"""Accuracy of the zoo's models against what they cost: a panel for each dataset, a point for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from qzoo.report.html.blocks import Chart
from qzoo.report.html.charts.canvas import FIRST, INK, LINE, PAPER, QUIET, SECOND, drawing, finished, label
from qzoo.results.zoo import ZooRow
from qzoo.schema.datasets import dataset_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, PANEL, AROUND = 9.6, 3.1, 0.5
"""Inches: of the picture, of a panel, of the rest."""
INCH, FONT, SIGN, LINE_HEIGHT = 72, 7.5, 4.4, 10
"""Points: of an inch, of names, of the width of a sign and the height of a line in them."""
MIDDLE = 0.6
"""Of the width; beyond it names stand to the left of their points."""
FLOAT_BITS, FEW = 32, 7.5
NOTE = (
    "Hollow circle: float; square: 8 bits; triangle: fewer bits, on average. A line leads from a base to each of its "
    "variants. Named are those than which no other is both smaller, or faster, and more accurate. A click on a point "
    "leads to its recipe and commands. What was measured on a part of a split is left out."
)


class Against(NamedTuple):
    """What accuracy is drawn against.

    Attributes:
        title: of the chart.
        axis: its words, with the unit.
        value: of a row, in that unit; None where it is not known.
    """

    title: str
    axis: str
    value: Callable[[ZooRow], float | None]


class Point(NamedTuple):
    """A model in a panel."""

    row: ZooRow
    x: float
    y: float


SIZE = Against("size", "MB", lambda row: row.megabytes)
MACS = Against("MACs", "multiply-accumulates of one image, in billions", lambda row: row.macs and row.macs / 1e9)
LATENCY = Against("latency", "ms for one image, in the fastest runtime that was measured", lambda row: row.latency_ms)


def href(row: ZooRow) -> str:
    """Returns where a page says more of a model."""
    return f"#{quote(row.name)}"


def accuracy_against(rows: Sequence[ZooRow], against: Against) -> Chart | None:
    """Returns the chart; None where no model has both figures.

    Args:
        rows: bases and variants.
        against: what the horizontal axis shows.
    """
    panels: dict[str, list[Point]] = {}
    for row in rows:
        x, y = against.value(row), row.comparable_top1
        if x is not None and y is not None and x > 0:
            panels.setdefault(row.dataset, []).append(Point(row, x, y))
    if not panels:
        return None
    with drawing(WIDTH, PANEL * len(panels) + AROUND) as figure:
        for axes, (dataset, points) in zip(
            figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True
        ):
            _panel(axes, dataset_named(dataset).title, points)
        axes.set_xlabel(against.axis)
        links = {href(point.row): _said(point, against) for points in panels.values() for point in points}
        return finished(figure, f"Accuracy against {against.title}", _text(panels, against), NOTE, links)


def _panel(axes: Axes, title: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_title(f"{label(title)}: top-1, %", loc="left", fontsize=9)
    axes.set_xscale("log")
    axes.grid(alpha=0.6)
    axes.tick_params(length=0, which="both")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(0.06, 0.12)
    bases = {point.row.base: point for point in points if point.row.variant is None}
    for point in points:
        if point.row.variant is not None and point.row.base in bases:
            base = bases[point.row.base]
            axes.plot([base.x, point.x], [base.y, point.y], color=LINE, linewidth=0.8, zorder=1)
        _draw(axes, point)
    _name(axes, _front(points))


def _name(axes: Axes, points: Sequence[Point]) -> None:
    """Writes names at points, the most accurate first; one that would stand in another is left out."""
    axes.autoscale_view()
    taken: list[tuple[float, float, float]] = []
    for point in reversed(points):
        name = label(point.row.name)
        x, y = axes.transData.transform((point.x, point.y)) * INCH / axes.figure.dpi
        left = x > MIDDLE * WIDTH * INCH
        start = x - len(name) * SIGN if left else x
        end = start + len(name) * SIGN
        if all(abs(y - height) > LINE_HEIGHT or start > right or end < begin for begin, right, height in taken):
            axes.annotate(
                name, (point.x, point.y), (-6 if left else 6, 4), textcoords="offset points", fontsize=FONT, color=INK,
                ha="right" if left else "left",
            )  # fmt: skip
            taken.append((start, end, y))


def _draw(axes: Axes, point: Point) -> None:
    bits = point.row.bits or FLOAT_BITS
    marker, color = ("o", QUIET) if bits == FLOAT_BITS else ("s", FIRST) if bits > FEW else ("^", SECOND)
    dots = axes.scatter(
        [point.x], [point.y], s=30, marker=marker, facecolor=PAPER if bits == FLOAT_BITS else color, edgecolor=color,
        zorder=2,
    )  # fmt: skip
    dots.set_urls([href(point.row)])


def _front(points: Sequence[Point]) -> list[Point]:
    """Returns the points than which no other is both further left and higher.

    Of equal ones it is the first.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.x, -one.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def _said(point: Point, against: Against) -> str:
    return f"{point.row.name}: {point.y:.2f} %, {point.x:.3g} {against.axis.partition(' ')[0]}"


def _text(panels: dict[str, list[Point]], against: Against) -> str:
    fronts = (
        f"{dataset_named(dataset).title}, {len(points)} models: "
        + "; ".join(_said(one, against) for one in _front(points))
        for dataset, points in panels.items()
    )
    return f"From the smallest, each better than all before. {'. '.join(fronts)}."
