"""An export: the findings of the rules, and how close the runtime comes."""

from __future__ import annotations

from pathlib import Path

from qzoo.report.html.blocks import Block, Cell, Column, Content, Mark, Section, Table, Text, number
from qzoo.report.html.charts.bars import Bar, bar_chart
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.results.details import Details
from qzoo.results.export import ExportReport, NodeParity, Parity
from qzoo.runtimes.registry import RUNTIMES

MOST_DRAWN = 30
FINDINGS = (Column("node", code=True), Column("level"), Column("rule", code=True), Column("finding"))
NODES = (
    Column("quantizer", code=True), Column("fed rightly, steps", True), Column("end to end, steps", True),
    Column("of its values", True), Column("optimized, steps", True), Column("of its values", True),
)  # fmt: skip


def content(report: ExportReport, details: Details) -> Content:
    """Returns what a page says of an export."""
    sections = [
        Section("Findings", _findings(report)),
        Section("Parity", [] if report.parity is None else _parity(report.parity)),
        *quantizer_sections(details),
    ]
    mark: Mark = "bad" if report.errors or report.fault else "open" if report.parity is None else "good"
    return Content(report.name, _about(report), _verdict(report), mark, sections, report.environment)


def _title(report: ExportReport) -> str:
    return RUNTIMES[report.runtime].title if report.runtime in RUNTIMES else report.runtime


def _about(report: ExportReport) -> str:
    share = report.bytes / max(report.float_bytes, 1)
    size = f"{report.bytes / 1e6:.2f} MB ({share:.2f} of the float weights)"
    layers = f"{report.quantized_layers} of {report.layers} layers quantized"
    return f"{Path(report.file).name}: for {_title(report)}, opset {report.opset}, {size}, {layers}."


def _verdict(report: ExportReport) -> str:
    if report.fault:
        return report.fault
    if report.errors:
        broken = "a rule is broken" if len(report.errors) == 1 else f"{len(report.errors)} rules are broken"
        return f"It does not fit {_title(report)}: {broken}, {report.errors[0]}"
    if report.parity is None:
        return f"It fits {_title(report)}; it was not compared with the model."
    same = f"{report.parity.agreement:.1f} % of {report.parity.images} images"
    return f"It fits {_title(report)}, and predicts what the model predicts for {same}."


def _findings(report: ExportReport) -> list[Block]:
    if not report.findings:
        return [Text("Every rule of the runtime is kept; nothing stays in float that could be quantized.")]
    marks: dict[str, Mark] = {"error": "bad", "note": "open"}
    rows: list[list[str | Cell]] = [
        [one.node, Cell(one.level, None, marks[one.level]), one.rule, one.message]
        for one in (*report.errors, *report.notes)
    ]
    return [Table("What the rules of the runtime find in the graph", FINDINGS, rows)]


def _parity(parity: Parity) -> list[Block]:
    by = "the runtime itself" if parity.own_runtime else "ONNX Runtime without optimizations, in its place"
    words = (
        f"Compared on {parity.images} images, in {by}: the same prediction for {parity.agreement:.1f} %, logits within "
        f"{parity.logit_difference:.2g} of {parity.largest_logit:.3g}."
    )
    blocks: list[Block] = [Text(words)]
    if parity.nodes:
        bars = [
            Bar(
                one.node,
                100 * one.plain_share,
                f"{100 * one.plain_share:.2g} %, at most {_steps(one.plain)}",
                one.alone > 1,
            )
            for one in parity.nodes[:MOST_DRAWN]
        ]
        note = (
            "End to end roundings cascade; that is no fault. Hatched: more than a step off though it was fed rightly."
        )
        blocks += [
            bar_chart("Integers that differ from the model's, input to output", bars, "percent of the values", note),
            Table("Every quantizer, in steps of its grid", NODES, [*map(_row, parity.nodes)]).filled(),
        ]
    return blocks


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _row(one: NodeParity) -> list[str | Cell]:
    share = None if one.optimized_share is None else 100 * one.optimized_share
    return [
        one.node, number(one.alone, ".0f"), number(one.plain, ".0f"), number(100 * one.plain_share, ".2g", " %"),
        number(one.optimized, ".0f"), number(share, ".2g", " %"),
    ]  # fmt: skip
