"""A sensitivity analysis: what quantizing each layer does, and the rules that mend the worst."""

from __future__ import annotations

from qzoo.report.html.blocks import Block, Cell, Code, Column, Content, Mark, Section, Table, Text, number
from qzoo.report.html.charts.bars import Bar, bar_chart
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.report.sensitivity import decibels, noise_percent, points
from qzoo.report.table import LEAK
from qzoo.results.details import Details
from qzoo.results.sensitivity import Deviation, LayerSensitivity, SensitivityReport
from qzoo.schema.datasets import dataset_named

MOST_DRAWN = 30
LAYERS = (
    Column("layer", code=True), Column("SQNR alone", True), Column("drop alone", True), Column("rank by drop", True),
    Column("flips alone", True), Column("SQNR left out", True), Column("gain left out", True),
    Column("flips left out", True),
)  # fmt: skip
EXCLUDED = (
    Column("left in float", code=True), Column("top-1", True), Column("gain", True), Column("SQNR", True),
    Column("flips", True),
)  # fmt: skip
NOTE = (
    "Longer is worse: noise in the logits with this layer alone quantized, in percent of the signal's power; beside it "
    "the ratio in dB. Hatched: the layers that the rules below leave in float."
)


def content(report: SensitivityReport, details: Details) -> Content:
    """Returns what a page says of an analysis."""
    version = "" if report.version is None else f"@{report.version}"
    mark: Mark = "open"
    sections = [Section("Layers", _layers(report)), Section("What to leave in float", _mended(report))]
    return Content(
        f"{report.name}{version}", _about(report), _verdict(report), mark,
        [*sections, *quantizer_sections(details)], report.environment,
    )  # fmt: skip


def _about(report: SensitivityReport) -> str:
    where = "" if report.dataset is None else f"On {dataset_named(report.dataset).title} {report.split}, "
    made = report.calibration
    calibrated = "" if made is None else f"; calibrated on {made.images:,} images first"
    return f"{where}{report.images:,} images{calibrated}. Each layer is quantized alone, and left out alone."


def _verdict(report: SensitivityReport) -> str:
    worst, whole = report.layers[0], report.quantized
    loss = f"has {decibels(whole.sqnr_db)} SQNR and flips {whole.flips:,} images"
    if report.float_top1 is not None and whole.top1 is not None:
        loss = f"takes top-1 from {report.float_top1:.2f} to {whole.top1:.2f} %, at {decibels(whole.sqnr_db)} SQNR"
    mended = report.mended[-1] if report.mended else None
    gain = "" if mended is None else f"; {_count(len(mended.layers))} left in float: {_deviation(mended.deviation)}"
    return f"Quantizing everything {loss}. Worst alone is {worst.name}, {decibels(worst.alone.sqnr_db)}{gain}."


def _count(layers: int) -> str:
    return "this layer" if layers == 1 else f"the worst {layers}"


def _deviation(found: Deviation) -> str:
    top1 = "" if found.top1 is None else f"{found.top1:.2f} %, "
    return f"{top1}{decibels(found.sqnr_db)}"


def _layers(report: SensitivityReport) -> list[Block]:
    chosen = {name for one in report.mended[-1:] for name in one.layers}
    bars = [
        Bar(one.name, noise_percent(one.alone.sqnr_db), decibels(one.alone.sqnr_db), one.name in chosen)
        for one in report.layers[:MOST_DRAWN]
    ]
    of = "" if len(bars) == len(report.layers) else f", the worst {len(bars)} of {len(report.layers)}"
    chart = bar_chart(f"Noise of each layer alone{of}", bars, "noise in the logits, % of the signal's power", NOTE)
    blocks: list[Block] = [chart, Table("Every layer, worst noise alone first", LAYERS, [*map(_row, report.layers)])]
    if report.float_top1 is not None:
        blocks.append(
            Text(f"One image is {100 / report.images:.2g} of top-1: trust the SQNR where drops are that small.")
        )
    if report.calibration is not None and report.calibration.allow_leak:
        blocks.append(Text(LEAK, "bad"))
    return blocks


def _row(layer: LayerSensitivity) -> list[str | Cell]:
    return [
        layer.name, _decibels(layer.alone), number(layer.drop, "+.2f"),
        number(None if layer.drop is None else layer.rank_by_drop, ".0f"), number(layer.alone.flips, ",.0f"),
        _decibels(layer.left_out), number(layer.gain, "+.2f"), number(layer.left_out.flips, ",.0f"),
    ]  # fmt: skip


def _decibels(found: Deviation) -> Cell:
    # Without noise the ratio is infinite, and sorts so.
    return Cell(decibels(found.sqnr_db), 1e9 if found.sqnr_db is None else found.sqnr_db)


def _mended(report: SensitivityReport) -> list[Block]:
    if not report.mended:
        return []
    rows: list[list[str | Cell]] = [
        [
            " + ".join(one.layers), number(one.deviation.top1), Cell(points(one.gain), one.gain),
            _decibels(one.deviation), number(one.deviation.flips, ",.0f"),
        ]
        for one in report.mended
    ]  # fmt: skip
    blocks: list[Block] = [Table("The worst layers left out together", EXCLUDED, rows)]
    if rules := report.rules_yaml():
        blocks.append(Code("The rules that do the last of these, to go under `rules:` of a variant", rules.rstrip()))
    return blocks
