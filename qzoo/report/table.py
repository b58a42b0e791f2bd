"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from qzoo.schema.report import Report, ReportRow

STYLES = {"pass": "green", "own": "green", "fail": "bold red", "partial": "yellow", "unpublished": "dim"}


def report_table(report: Report) -> Iterator[RenderableType]:
    """Yields what to print of a report: its table, and the lines that keep a reader from misreading it."""
    table = Table(
        title=f"{report.name}@{report.version} on {report.dataset} {report.split}, {report.images:,} images",
        title_justify="left", box=None, header_style="bold", pad_edge=False,
    )  # fmt: skip
    for heading in ("variant", "method"):
        table.add_column(heading)
    for heading in ("top-1", "top-5", "drop", "agree", "published"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    table.add_column("seconds", justify="right")
    for row in report.rows:
        table.add_row(*_cells(row, report.rows[0]), style="bold" if row.stage == "float" else None)
    yield table
    yield from _remarks(report)


def _cells(row: ReportRow, baseline: ReportRow) -> list[str]:
    return [
        row.variant,
        row.method or "",
        f"{row.top1:.2f}",
        f"{row.top5:.2f}",
        "" if row is baseline else f"{baseline.top1 - row.top1:+.2f}",
        "" if row is baseline else f"{row.agreement_with_float:.2f}",
        row.published_text(),
        f"[{STYLES[row.verdict]}]{row.verdict}[/]",
        f"{row.seconds:.1f}",
    ]


def _remarks(report: Report) -> Iterator[str]:
    yield ""
    if not report.complete or any(row.verdict == "partial" for row in report.rows):
        widest = max((row.ci95[1] - row.ci95[0]) / 2 for row in report.rows)
        yield f"partial: fewer images than the published protocol; top-1 is known to about ±{widest:.1f} points (95%)."
    if report.calibration is not None and report.calibration.allow_leak:
        yield "[bold red]allow_leak: calibrated on images of the evaluation split; the figures are too good.[/]"
    for variant, reason in report.excluded.items():
        yield f"[dim]not run: {variant} ({reason})[/]"
    if report.calibration is not None:
        short = " (all there are; the recipe wants more)" if report.calibration.short else ""
        count = f"{report.calibration.images:,} images{short}"
        yield (
            f"[dim]calibrated on {count}; drop and agreement (%) are against float; seconds: collecting where it was "
            "needed, solving, evaluating[/]"
        )
