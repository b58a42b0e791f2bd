"""A benchmark: latency beside float, and what did not run on integers."""

from __future__ import annotations

from qzoo.report.html.blocks import Block, Cell, Column, Content, Mark, Section, Table, Text, number
from qzoo.report.html.charts.bars import Bar, bar_chart
from qzoo.results.benchmark import BenchmarkReport, Timing
from qzoo.results.details import Details
from qzoo.runtimes.registry import RUNTIMES

TIMINGS = (
    Column("images at a time", True), Column("float, ms", True), Column("10–90 %", True), Column("quantized, ms", True),
    Column("10–90 %", True), Column("times as fast", True),
)  # fmt: skip
OPERATORS = (Column("node", code=True), Column("kernel", code=True), Column("why"))


def content(report: BenchmarkReport, details: Details) -> Content:
    """Returns what a page says of a benchmark."""
    title = RUNTIMES[report.runtime].title if report.runtime in RUNTIMES else report.runtime
    flags = ", ".join(report.cpu_flags) or "none of the CPU flags that matter"
    about = f"In {title}, {report.threads} threads, {report.environment.get('cpu', 'unknown CPU')}: {flags}."
    fastest = max(report.timings, key=lambda one: one.speed, default=None)
    speed = "" if fastest is None else f"{fastest.speed:.2f} times as fast as float, {_at(fastest)}; "
    done, additions = report.integer_additions
    verdict = (
        f"{speed}{100 * report.integer_macs:.1f} % of the multiply-accumulates and {done} of {additions} residual "
        "additions ran on integers."
    )
    mark: Mark = "open" if fastest is None else "good" if fastest.speed > 1 else "bad"
    sections = [Section("Latency", _latency(report)), Section("In float", _in_float(report))]
    return Content(report.name, about, verdict, mark, sections, report.environment)


def _at(timing: Timing) -> str:
    return f"{timing.batch} {'image' if timing.batch == 1 else 'images'} at a time"


def _latency(report: BenchmarkReport) -> list[Block]:
    bars = []
    for one in report.timings:
        for kind, (low, median, high) in (("float", one.float_ms), ("quantized", one.quantized_ms)):
            each = median / one.batch
            bars.append(
                Bar(
                    f"{kind}, {_at(one)}",
                    each,
                    f"{each:.3g} ms",
                    kind == "quantized",
                    (low / one.batch, high / one.batch),
                )
            )
    note = "Median of an image; lines: from the 10th to the 90th percentile of all runs. Hatched: quantized."
    rows: list[list[str | Cell]] = [
        [
            number(one.batch, ".0f"), *_figures(one.float_ms), *_figures(one.quantized_ms),
            number(one.speed, ".2f", "x"),
        ]
        for one in report.timings
    ]  # fmt: skip
    return [bar_chart("Latency of an image", bars, "milliseconds an image", note), Table("Latency", TIMINGS, rows)]


def _figures(timed: tuple[float, float, float]) -> tuple[Cell, Cell]:
    low, median, high = timed
    return number(median, ".3g"), Cell(f"{low:.3g}–{high:.3g}", low)


def _in_float(report: BenchmarkReport) -> list[Block]:
    if not report.float_operators:
        return [Text("Every layer and every residual addition ran on integers.")]
    rows: list[list[str | Cell]] = [[one.node, one.kernel, one.reason] for one in report.float_operators]
    return [Table("Layers and additions that did not run on integers", OPERATORS, rows)]
