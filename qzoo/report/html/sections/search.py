"""A search: the measured curve, the choice for each group, and the recipe to paste."""

from __future__ import annotations

from qzoo.report.html.blocks import Block, Cell, Column, Content, Facts, Mark, Section, Table, number
from qzoo.report.html.charts.pareto import choice_strip, pareto_chart
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.report.sensitivity import decibels
from qzoo.results.details import Details
from qzoo.results.search import SearchGroup, SearchPoint, SearchReport
from qzoo.schema.datasets import dataset_named

MOST_STRIPS = 8
POINTS = (
    Column("point", code=True), Column("top-1 lost", True), Column("95 %", True), Column("agreement", True),
    Column("SQNR", True), Column("predicted loss", True), Column("bits", True), Column("size", True),
    Column("MACs in float", True), Column("latency", True), Column("ms", True), Column("on the curve"),
)  # fmt: skip
BUDGETS = {
    "max_drop": "at most {:g} points of top-1 lost", "bits": "at most {:g} bits a weight on average",
    "size": "at most {:g} of the float size", "macs_int": "at least {:g} of the MACs on integers",
    "latency": "at most {:g} of the float latency",
}  # fmt: skip


def content(report: SearchReport, details: Details) -> Content:
    """Returns what a page says of a search."""
    measured = [pareto_chart(report, cost) for cost in _costs(report)]
    points: list[Block] = [one for one in measured if one is not None]
    version = "" if report.version is None else f"@{report.version}"
    sections = [
        Section("Measured points", [*points, _points(report)]),
        Section("Choice", [choice_strip(report, report.points[:MOST_STRIPS]), _groups(report)]),
        Section("How it was found", [Facts(_facts(report))]),
        *quantizer_sections(details),
    ]
    return Content(
        f"{report.name}{version}", _about(report), _verdict(report), _mark(report), sections, report.environment
    )


def _costs(report: SearchReport) -> list[str]:
    """Returns the costs that a curve is drawn for: what was budgeted or minimized; bits where that is none."""
    budgeted = {"bits": "bits", "size": "size", "macs_int": "macs_float", "latency": "latency"}
    asked = [budgeted[one] for one in report.budget if one in budgeted]
    wanted = [*asked, *([report.minimize] if report.minimize != "loss" else [])]
    return list(dict.fromkeys(wanted)) or ["bits"]


def _about(report: SearchReport) -> str:
    where = "" if report.dataset is None else f" of {dataset_named(report.dataset).title} {report.split}"
    target = "" if report.target is None else f" for {report.target}"
    return (
        f"Searched{target}: scored on {report.scored_images:,} images, measured on {report.images:,}{where}, in "
        f"{report.seconds:,.0f} s."
    )


def _verdict(report: SearchReport) -> str:
    found = report.solution
    asked = " and ".join(BUDGETS[one].format(value) for one, value in report.budget.items()) or "no budget"
    costs = ", ".join(f"{_cost(name, value)}" for name, value in found.cost.items())
    if found.drop is None:
        lost = "" if found.agreement is None else f" agrees with float on {found.agreement:.1f} % of the images"
    else:
        low, high = found.drop_ci95 or (found.drop, found.drop)
        lost = f" loses {found.drop:.2f} points of top-1 ({low:+.2f} to {high:+.2f})"
    return f"With {asked} the solution{lost or ' was not measured'}, at {costs}."


def _cost(name: str, value: float) -> str:
    words = {
        "bits": f"{value:.2f} bits a weight", "size": f"{value:.2f} of the size",
        "macs_float": f"{100 * value:.1f} % of the MACs in float", "latency": f"{value:.2f} of the latency",
    }  # fmt: skip
    return words.get(name, f"{name} {value:.3g}")


def _mark(report: SearchReport) -> Mark:
    most, found = report.budget.get("max_drop"), report.solution
    if most is None or found.drop is None:
        return "open"
    return "good" if found.drop <= most else "bad"


def _points(report: SearchReport) -> Table:
    return Table("Every measured point", POINTS, [*map(_point, report.points)]).filled()


def _point(one: SearchPoint) -> list[str | Cell]:
    interval = one.drop_ci95
    between = Cell("") if interval is None else Cell(f"{interval[0]:+.2f} to {interval[1]:+.2f}", interval[0])
    noise = Cell("") if one.measured is None else Cell(decibels(one.measured.sqnr_db), one.measured.sqnr_db)
    return [
        one.name, number(one.drop, "+.2f"), between, number(one.agreement, ".2f"), noise,
        number(one.predicted_loss, ".3g"), number(one.cost.get("bits")), number(one.cost.get("size"), ".3f"),
        number(one.cost.get("macs_float"), ".3f"), number(one.cost.get("latency"), ".3f"),
        number(one.latency_ms, ".3g"),
        "yes" if one.on_front else "no",
    ]  # fmt: skip


def _groups(report: SearchReport) -> Table:
    losses = [Column(f"loss {one.name}", True) for one in report.candidates]
    columns = (Column("group", code=True), Column("chosen", code=True), Column("weights", True), Column("MACs", True))
    rows = [_group(report, one) for one in report.groups]
    return Table("Every group: what was chosen, and the predicted loss of each candidate", (*columns, *losses), rows)


def _group(report: SearchReport, group: SearchGroup) -> list[str | Cell]:
    chosen = report.solution.choice.get(group.name, "")
    losses = [number(group.loss.get(one.name), ".3g") for one in report.candidates]
    layers = f" and {len(group.layers) - 1} more" if len(group.layers) > 1 else ""
    return [f"{group.name}{layers}", chosen, number(group.weights, ",.0f"), number(group.macs, ",.0f"), *losses]


def _facts(report: SearchReport) -> list[tuple[str, str]]:
    tried = f"{report.neighbours_tried:,} tried, {report.neighbours_better:,} better"
    facts = [("minimized", report.minimize), ("neighbours", tried), ("groups", f"{len(report.groups):,}")]
    facts.append(("candidates", ", ".join(one.name for one in report.candidates)))
    if report.latency is not None:
        source = report.latency
        times = f"{source.float_ms:.3g} ms in float, {source.quantized_ms:.3g} ms on integers"
        facts.append(("latency", f"measured in {source.runtime}, {source.threads} threads: {times}; {source.file}"))
    return facts
