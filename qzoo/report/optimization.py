"""What optimizing did, as a table for the terminal: a row a step, and what a person should know of single layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.errors import shown
from qzoo.results.optimization import Change, Optimization, StepResult

MOST_NOTES = 8
"""Layers of a step that are told of one by one."""


def optimization_table(name: str, report: Optimization) -> Iterator[RenderableType]:
    """Yields what to print of an optimization: its table, and the notes of layers that went another way.

    Args:
        name: full name of the variant.
        report: what each step did.
    """
    yield Text(f"{shown(name)}, optimized on {report.images:,} images", "italic")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, left in (("step", True), ("changes", False), ("error before", False), ("after", False), ("s", False)):
        table.add_column(heading, justify="left" if left else "right")
    for step in report.steps:
        before, after = mean_errors(step.changes)
        table.add_row(step.step, str(len(step.changes)), before, after, f"{step.seconds:.1f}")
    yield table
    for step in report.steps:
        yield from _notes(step)


def mean_errors(changes: Sequence[Change]) -> tuple[str, str]:
    """Returns the mean errors of what a step changed, before and after, as text; empty where it measures none.

    Example:
        >>> mean_errors([Change(path="a", before=0.1, after=0.02), Change(path="b")])
        ('0.1', '0.02')
    """
    known = [(one.before, one.after) for one in changes if one.before is not None and one.after is not None]
    if not known:
        return "", ""
    before, after = (sum(values) / len(known) for values in zip(*known, strict=True))
    return f"{before:.2g}", f"{after:.2g}"


def _notes(step: StepResult) -> Iterator[Text]:
    told = [one for one in step.changes if one.note]
    for one in told[:MOST_NOTES]:
        yield Text(f"{step.step}: {shown(one.path)}: {shown(one.note)}", "dim")
    if len(told) > MOST_NOTES:
        yield Text(f"{step.step}: {len(told) - MOST_NOTES} more such; --json has all", "dim")
