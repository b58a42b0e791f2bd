"""An optimization: what each step did to each layer."""

from __future__ import annotations

from collections.abc import Iterator

from qzoo.report.html.blocks import Block, Cell, Column, Content, Section, Table, number
from qzoo.report.html.charts.bars import Pair, pair_chart
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.report.optimization import mean_errors
from qzoo.results.details import Details
from qzoo.results.optimization import Optimization, StepResult

MOST_DRAWN = 40
STEPS = (
    Column("step", code=True), Column("changes", True), Column("mean error before", True), Column("after", True),
    Column("seconds", True),
)  # fmt: skip
CHANGES = (
    Column("where", code=True), Column("step", code=True), Column("error before", True), Column("after", True),
    Column("note"),
)  # fmt: skip


def content(report: Optimization, details: Details) -> Content:
    """Returns what a page says of an optimization."""
    about = (
        f"Optimized on {report.images:,} images, without labels, in {sum(one.seconds for one in report.steps):,.1f} s."
    )
    sections = [Section("Steps", [*_steps(report)]), *quantizer_sections(details)]
    return Content(details.name or "model", about, _verdict(report), "open", sections)


def _verdict(report: Optimization) -> str:
    done = ", ".join(f"{one.step} ({len(one.changes):,} changes)" for one in report.steps) or "no step"
    measured = [(one.step, *mean_errors(one.changes)) for one in report.steps]
    named = [f"{step} from {before} to {after}" for step, before, after in measured if before]
    errors = f" Mean error of what it changed: {'; '.join(named)}." if named else ""
    return f"Done: {done}.{errors}"


def _steps(report: Optimization) -> Iterator[Block]:
    for step in report.steps:
        pairs = _pairs(step)
        if pairs:
            title = f"{step.step}: error of each output, relative to float"
            yield pair_chart(title, pairs, "relative error", ("before", "after"), log=True)
    rows: list[list[str | Cell]] = [
        [one.step, number(len(one.changes), ",.0f"), *mean_errors(one.changes), number(one.seconds, ".1f")]
        for one in report.steps
    ]
    yield Table("Steps, in their order", STEPS, rows)
    changes: list[list[str | Cell]] = [
        [one.path, step.step, number(one.before, ".3g"), number(one.after, ".3g"), one.note]
        for step in report.steps
        for one in step.changes
    ]
    if changes:
        yield Table("What each step changed", CHANGES, changes)


def _pairs(step: StepResult) -> list[Pair]:
    """Returns the errors of what a step changed, the largest first if they are many."""
    known = [Pair(one.path, one.before, one.after) for one in step.changes if one.before and one.after]
    largest = sorted(known, key=lambda one: -one.first)[:MOST_DRAWN]
    return [one for one in known if one in largest]
