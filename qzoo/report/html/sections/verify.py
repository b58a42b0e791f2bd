"""A verification: predictions of this machine beside those of a receipt."""

from __future__ import annotations

from qzoo.report.html.blocks import Cell, Chart, Column, Content, Facts, Mark, Section, Table, number
from qzoo.report.html.charts.bars import Bar, bar_chart
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.results.details import Details
from qzoo.results.verification import VerificationReport
from qzoo.schema.datasets import dataset_named

COLUMNS = (Column("images that are"), Column("how many", True), Column("of", True), Column("meaning"))


def content(report: VerificationReport, details: Details) -> Content:
    """Returns what a page says of a verification."""
    where = f"{dataset_named(report.dataset).title} {report.split}"
    about = (
        f"{report.usual.images:,} of the {report.receipt_images:,} images of the receipt, of {where}; {report.date}."
    )
    if report.reproduced:
        verdict = "Reproduced: this machine gets the predictions of the claim."
    else:
        verdict = f"Not reproduced: this is another model or another arithmetic. {report.cause or ''}".rstrip()
    facts = [(f"receipt: {name}", str(value)) for name, value in report.environment.items()]
    if report.claimed_top1 is not None:
        facts.insert(0, ("claimed top-1", f"{report.claimed_top1:.2f} %"))
    sections = [Section("Predictions", [_chart(report), _table(report)]), Section("The receipt", [Facts(facts)])]
    mark: Mark = "good" if report.reproduced else "bad"
    return Content(report.name, about, verdict, mark, [*sections, *quantizer_sections(details)])


def _rows(report: VerificationReport) -> list[tuple[str, int, int, str]]:
    usual, exact = report.usual, report.exact
    return [
        ("identical", usual.identical, usual.images, "same prediction, same margin"),
        ("moved", usual.moved, usual.images, f"same prediction, another margin, by {usual.largest:.2g} at most"),
        ("flipped", usual.flipped, usual.images, "another prediction"),
        ("moved in float64", exact.moved, exact.images,
         f"another margin where rounding moves none, by {exact.largest:.2g} at most"),
    ]  # fmt: skip


def _chart(report: VerificationReport) -> Chart:
    bars = [
        Bar(name, 100 * count / max(of, 1), f"{count:,} of {of:,}", name.startswith(("flipped", "moved in")))
        for name, count, of, _ in _rows(report)
    ]
    note = "Hatched: what says that it is another model; a few flips of roundings do not."
    return bar_chart("Predictions of this machine beside the receipt's", bars, "percent of the images", note)


def _table(report: VerificationReport) -> Table:
    rows: list[list[str | Cell]] = [
        [name, number(count, ",.0f"), number(of, ",.0f"), meaning] for name, count, of, meaning in _rows(report)
    ]
    return Table("Images by what became of their prediction", COLUMNS, rows)
