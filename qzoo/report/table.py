"""A report as a table for the terminal: one layout for a run like the published one, another for a partial one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.errors import shown
from qzoo.results.reproduce import Report, ReportRow
from qzoo.schema.calibration import MADE_FROM

STYLES = {"pass": "green", "own": "green", "fail": "bold red", "partial": "yellow", "unpublished": "dim"}
LEAK = "allow_leak: calibrated on images of the evaluation split; the figures are too good."


class _Column(NamedTuple):
    heading: str
    cell: Callable[[Report, ReportRow], str | Text]
    left: bool = False
    of_float: bool = True
    """Whether the float model's row has it."""


def report_table(report: Report) -> Iterator[RenderableType]:
    """Yields what to print of a report: its table, and the lines that keep a reader from misreading it."""
    table = Table(
        title=_title(report),
        title_justify="left", box=None, header_style="bold", pad_edge=False,
    )  # fmt: skip
    columns = _columns(report)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right")
    for row in report.rows:
        is_float = row is report.rows[0]
        cells = [column.cell(report, row) if column.of_float or not is_float else "" for column in columns]
        table.add_row(*cells, style="bold" if is_float else None)
    yield table
    yield from _remarks(report)


def _title(report: Report) -> str:
    where = f"{shown(report.dataset)} {shown(report.split)}"
    return f"{report.name}@{report.version} on {where}, {report.images:,} images"


def _columns(report: Report) -> list[_Column]:
    known = any(report.published_drop(row) is not None for row in report.rows[1:])
    columns = PARTIAL if report.partial else COMPLETE
    return [column for column in columns if known or column is not PUBLISHED_DROP]


def _published_drop(report: Report, row: ReportRow) -> str:
    drop = report.published_drop(row)
    return "" if drop is None else f"{drop:+.2f}"


def method_of(row: ReportRow) -> str:
    """Returns how ranges were found, and from what, where that is not images of the dataset."""
    # What was calibrated without data is never to be taken for what was calibrated on images.
    return f"{row.method or ''}{'' if row.source in (None, 'images') else f', {row.source}'}"


def _flips(_: Report, row: ReportRow) -> str:
    return "" if row.mcnemar_p is None else f"-{row.lost} +{row.gained} p={_rounded(row.mcnemar_p)}"


def _rounded(p: float) -> str:
    # The eye should not take 0.004 for nothing, nor 0.00000001 for a figure.
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}" if p >= 0.001 else "<.001"


VARIANT = _Column("variant", lambda _, row: row.variant, left=True)
METHOD = _Column("method", lambda _, row: method_of(row), left=True)
TOP1 = _Column("top-1", lambda _, row: f"{row.top1:.2f}")
INTERVAL = _Column("95%", lambda _, row: f"{row.ci95[0]:.1f}–{row.ci95[1]:.1f}")
TOP5 = _Column("top-5", lambda _, row: f"{row.top5:.2f}")
DROP = _Column("drop", lambda report, row: f"{report.drop(row):+.2f}", of_float=False)
FLIPS = _Column("flips", _flips, of_float=False)
AGREE = _Column("agree", lambda _, row: f"{row.agreement_with_float:.2f}", of_float=False)
PUBLISHED = _Column("published", lambda _, row: row.published_text())
PUBLISHED_DROP = _Column("published\ndrop", _published_drop, of_float=False)
VERDICT = _Column("verdict", lambda _, row: Text(row.verdict, STYLES[row.verdict]), left=True)

COMPLETE = (VARIANT, METHOD, TOP1, TOP5, DROP, FLIPS, AGREE, PUBLISHED, VERDICT)
PARTIAL = (VARIANT, METHOD, TOP1, INTERVAL, DROP, PUBLISHED_DROP, FLIPS, PUBLISHED, VERDICT)


def _remarks(report: Report) -> Iterator[str | Text]:
    yield ""
    if report.partial:
        yield (
            "partial: fewer images than the published protocol; 95%: the confidence interval of top-1. All rows are of "
            "the same images, so drop and flips are surer than top-1."
        )
    if report.calibration is not None and report.calibration.allow_leak:
        yield Text(LEAK, "bold red")
    for variant, reason in report.excluded.items():
        yield Text(f"not run: {variant} ({shown(reason)})", "dim")
    if len(report.rows) > 1:
        yield Text(
            "drop, flips and agreement (%) are against float; flips: images lost and gained, with the p-value "
            "of McNemar's exact test",
            "dim",
        )
    if report.calibration is not None:
        short = " (all there are; the recipe wants more)" if report.calibration.short else ""
        seconds = sum(row.seconds for row in report.rows)
        made = MADE_FROM[report.calibration.source]
        yield Text(f"calibrated on {report.calibration.images:,} {made}{short}; {seconds:,.1f} s in all", "dim")
