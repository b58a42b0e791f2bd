"""A search as a table for the terminal: the solution, the uniform choices, and the curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.errors import shown
from qzoo.results.search import SearchPoint, SearchReport

COSTS = {"bits": "bits", "size": "size", "macs_float": "float MACs", "latency": "latency"}
"""By cost, the heading of its column; all but `bits` in shares of the float model's."""


def search_table(report: SearchReport) -> Iterator[RenderableType]:
    """Yields what to print of a search: its points, what was chosen, and what keeps a reader from misreading it."""
    where = f" on {shown(report.dataset)} {shown(report.split or '')}" if report.dataset else ""
    table = Table(
        title=f"{report.name}: {budget_text(report)}{where}, {report.images:,} images",
        title_justify="left", box=None, header_style="bold", pad_edge=False,
    )  # fmt: skip
    costs = [name for name in COSTS if name in report.solution.cost and _varies(report, name)]
    for heading in ("choice", *(COSTS[name] for name in costs), "drop", "95%", "agree", ""):
        table.add_column(heading, justify="left" if heading in ("choice", "") else "right")
    for point in report.points:
        table.add_row(*_cells(point, costs), style="bold" if point is report.solution else None)
    yield table
    yield from _remarks(report)


def budget_text(report: SearchReport) -> str:
    """Returns a budget in words: `bits 4, size 0.2`."""
    return ", ".join(f"{name.replace('_', '-')} {most:g}" for name, most in report.budget.items())


def _varies(report: SearchReport, cost: str) -> bool:
    return len({round(point.cost[cost], 6) for point in report.points}) > 1


def _cells(point: SearchPoint, costs: list[str]) -> list[str | Text]:
    drop = "" if point.drop is None else f"{point.drop + 0.0:+.2f}"
    interval = "" if point.drop_ci95 is None else f"{point.drop_ci95[0]:+.1f}..{point.drop_ci95[1]:+.1f}"
    agreement = "not measured" if point.agreement is None else f"{point.agreement:.2f}"
    figures = [f"{point.cost[name]:.2f}" if name == "bits" else f"{point.cost[name]:.3f}" for name in costs]
    front = Text("front", style="green") if point.on_front else ""
    return [point.name, *figures, drop, interval, agreement, front]


def _remarks(report: SearchReport) -> Iterator[Text]:
    chosen = Counter(candidate for name, candidate in report.solution.choice.items() if _has_layers(report, name))
    layers = ", ".join(f"{count} {name}" for name, count in chosen.most_common())
    yield Text(f"\nsolution: groups of layers {layers}")
    if not report.is_met:
        yield Text(
            f"No choice that was measured loses at most {report.budget['max_drop']:g}: this is the one that loses "
            "least. Add candidates, such as float.",
            style="bold red",
        )
    latencies = [point for point in report.points if point.latency_ms is not None]
    if latencies:
        timed = ", ".join(f"{point.name} {point.latency_ms:.2f} ms" for point in latencies)
        yield Text(f"measured in {report.target}, one image: float {report.float_latency_ms:.2f} ms, {timed}")
    yield Text(
        "drop and agreement (%) are against float on the same images; front: nothing measured loses as little for "
        f"less; losses of {report.scored_images:,} images; {report.neighbours_tried} neighbours tried, "
        f"{report.neighbours_better} times one was better; {report.seconds:.1f} s in all",
        style="dim",
    )


def _has_layers(report: SearchReport, name: str) -> bool:
    return any(group.layers for group in report.groups if group.name == name)
