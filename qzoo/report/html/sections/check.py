"""A check of ranges on a few images."""

from __future__ import annotations

from qzoo.report.html.blocks import Block, Cell, Column, Content, Mark, Section, Table, Text, number
from qzoo.report.html.charts.bars import Pair, pair_chart
from qzoo.report.html.charts.tensors import percent
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.report.sensitivity import decibels
from qzoo.results.check import CheckedQuantizer, CheckReport
from qzoo.results.details import Details

MARKS: dict[str, Mark] = {"fine": "good", "layers": "bad", "recalibrate": "bad", "low agreement": "open"}
MOST_DRAWN = 24
COLUMNS = (
    Column("quantizer", code=True), Column("range from", True), Column("to", True), Column("found here from", True),
    Column("to", True), Column("ratio", True), Column("clipped", True), Column("finding"),
)  # fmt: skip


def content(report: CheckReport, details: Details) -> Content:
    """Returns what a page says of a check."""
    low, high = report.ci95
    about = (
        f"On {report.images:,} images, without labels: {report.agreement:.1f} % of predictions agree with float "
        f"({low:.1f} to {high:.1f}), SQNR {decibels(report.sqnr_db)}."
    )
    sections = [Section("Ranges found here", _ranges(report)), *quantizer_sections(details)]
    return Content(report.name, about, report.sentence, MARKS[report.verdict], sections)


def _ranges(report: CheckReport) -> list[Block]:
    pairs = [
        Pair(one.path, one.range[1] - one.range[0], one.found[1] - one.found[0])
        for one in report.quantizers[:MOST_DRAWN]
        if one.range[1] > one.range[0] and one.found[1] > one.found[0]
    ]
    of = "" if len(pairs) == len(report.quantizers) else f": {len(pairs)} of {len(report.quantizers)}, the furthest off"
    blocks: list[Block] = []
    if pairs:
        names = ("the range of the model", "the range that its calibrator finds on these images")
        blocks = [pair_chart(f"Widths of ranges{of}", pairs, "width of the range", names, log=True)]
    rows = [_row(one) for one in report.quantizers]
    why = (
        "Ranges that were learned, or of weights that were trained, have no other range to be held against: not judged."
    )
    return [*blocks, Table("Every quantizer, the furthest off first", COLUMNS, rows), Text(why)]


def _row(one: CheckedQuantizer) -> list[str | Cell]:
    said = f"too {one.fault}" if one.fault else "fits" if one.judged else "not judged"
    mark: Mark = "bad" if one.fault else "good" if one.judged else "open"
    return [
        one.path, *(number(end, ".4g") for end in (*one.range, *one.found)), number(one.ratio),
        Cell(percent(one.clipped), one.clipped), Cell(said, None, mark),
    ]  # fmt: skip
