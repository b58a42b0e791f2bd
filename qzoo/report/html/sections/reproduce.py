"""A rerun recipe: measured beside published."""

from __future__ import annotations

from qzoo.errors import shown, some
from qzoo.report.html.blocks import Cell, Column, Content, Mark, Section, Table, Text, number
from qzoo.report.html.charts.accuracy import Claimed, Measured, accuracy_chart
from qzoo.report.html.sections.flips import flip_section
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.report.html.sections.training import training_section
from qzoo.report.table import LEAK, method_of
from qzoo.results.details import Details
from qzoo.results.reproduce import Report, ReportRow
from qzoo.schema.calibration import MADE_FROM
from qzoo.schema.datasets import dataset_named

MARKS: dict[str, Mark] = {"pass": "good", "own": "good", "fail": "bad", "partial": "open", "unpublished": "open"}
COLUMNS = (
    Column("variant", code=True), Column("verdict"), Column("method"), Column("top-1", True), Column("95 %", True),
    Column("top-5", True), Column("drop", True), Column("published drop", True), Column("flips", True),
    Column("p", True), Column("agree", True), Column("published", True), Column("seconds", True),
)  # fmt: skip


def content(report: Report, details: Details) -> Content:
    """Returns what a page says of a report."""
    sections = [
        Section("Accuracy", [accuracy_chart([*map(_measured, report.rows)]), _table(report), *_remarks(report)]),
        *(training_section(one, f"Training of {name}") for name, one in report.training.items()),
        *quantizer_sections(details),
        flip_section(details),
    ]
    failed = any(row.verdict == "fail" for row in report.rows)
    mark: Mark = "bad" if failed else "open" if report.partial else "good"
    return Content(
        f"{report.name}@{report.version}", _about(report), _verdict(report), mark, sections, report.environment
    )


def _about(report: Report) -> str:
    where = f"{dataset_named(report.dataset).title} {report.split}"
    part = "" if report.complete else ", fewer than the published protocol"
    made = report.calibration
    calibrated = "" if made is None else f"; calibrated on {made.images:,} {MADE_FROM[made.source]}"
    return f"On {where}, {report.images:,} images{part}{calibrated}."


def _verdict(report: Report) -> str:
    variants = report.rows[1:]
    failed = [row.variant for row in report.rows if row.verdict == "fail"]
    if failed:
        judged = sum(row.verdict in ("pass", "own", "fail") for row in report.rows)
        return f"{len(failed)} of {judged} figures are not what was published: {some(failed)}."
    if not variants:
        return f"The float model has {report.rows[0].top1:.2f} % top-1."
    worst = max(variants, key=report.drop)
    loss = f"{worst.variant} loses most against float, {report.drop(worst):.2f} points of top-1"
    if report.drop(worst) <= 0:
        loss = "no variant has less top-1 than float"
    if report.partial:
        return f"Nothing is claimed, as these are not the images or settings of the published figures; {loss}."
    claimed = sum(row.verdict in ("pass", "own") for row in report.rows)
    if claimed:
        return f"All {claimed} figures are as published or as measured before; {loss}."
    return f"Nothing is published of these variants; {loss}."


def _measured(row: ReportRow) -> Measured:
    claims = [
        Claimed(figure, claim.tolerance if claim.top1 is not None else None)
        for claim in row.published
        if (figure := claim.figure) is not None
    ]
    return Measured(row.variant, row.top1, row.ci95, tuple(claims))


def _table(report: Report) -> Table:
    rows = [_row(report, row, is_float=place == 0) for place, row in enumerate(report.rows)]
    return Table("Measured beside published; top-1, top-5 and agreement in percent", COLUMNS, rows).filled()


def _row(report: Report, row: ReportRow, is_float: bool) -> list[str | Cell]:
    low, high = row.ci95
    drops = (None, None) if is_float else (report.drop(row), report.published_drop(row))
    return [
        row.variant,
        Cell(row.verdict, None, MARKS[row.verdict]),
        method_of(row),
        number(row.top1),
        Cell(f"{low:.1f}–{high:.1f}", low),
        number(row.top5),
        *(number(drop, "+.2f") for drop in drops),
        _flips(row),
        number(row.mcnemar_p, ".2g"),
        number(None if is_float else row.agreement_with_float),
        row.published_text(),
        number(row.seconds, ".1f"),
    ]


def _flips(row: ReportRow) -> Cell:
    if row.lost is None or row.gained is None:
        return Cell("")
    return Cell(f"-{row.lost} +{row.gained}", row.lost + row.gained)


def _remarks(report: Report) -> list[Text]:
    remarks = [
        Text(
            "Drop, flips and agreement are against float, on the same images, so they are surer than top-1. Flips are "
            "images lost and gained; p is that of McNemar's exact test, whether these could be chance."
        )
    ]
    if report.calibration is not None and report.calibration.allow_leak:
        remarks.insert(0, Text(LEAK, "bad"))
    if report.excluded:
        left = "; ".join(f"{variant} ({shown(reason)})" for variant, reason in report.excluded.items())
        remarks.append(Text(f"Not run: {left}."))
    return remarks
