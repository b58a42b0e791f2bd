"""A sensitivity analysis as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.errors import shown
from qzoo.report.table import LEAK
from qzoo.results.sensitivity import Excluded, LayerSensitivity, SensitivityReport

HEADINGS = ("SQNR alone", "drop alone", "by drop", "flips", "gain left out")


def sensitivity_table(report: SensitivityReport, top: int | None = None) -> Iterator[RenderableType]:
    """Yields what to print of a report: the layers, worst first, and what leaving out the worst brings.

    Args:
        report: of `qzoo.sensitivity`.
        top: how many layers; default: all.
    """
    yield _layers(report, report.layers[:top])
    yield from _remarks(report, len(report.layers[:top]))
    if report.mended:
        yield ""
        yield _mended(report)


def _layers(report: SensitivityReport, layers: list[LayerSensitivity]) -> Table:
    table = Table(title=_title(report), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        rank = Text(f"#{layer.rank_by_drop}" if layer.drop is not None else "", "dim")
        cells = (decibels(layer.alone.sqnr_db), points(layer.drop), rank, str(layer.alone.flips), points(layer.gain))
        table.add_row(shown(layer.name), *cells)
    return table


def _title(report: SensitivityReport) -> str:
    version = "" if report.version is None else f"@{report.version}"
    where = "" if report.dataset is None else f" on {shown(report.dataset)} {shown(str(report.split))},"
    return f"{report.name}{version}{where} {report.images:,} images"


def _remarks(report: SensitivityReport, listed: int) -> Iterator[str | Text]:
    yield ""
    whole = report.quantized
    top1 = "" if whole.top1 is None else f"top-1 {report.float_top1:.2f} in float, {whole.top1:.2f} quantized; "
    yield f"all quantized: {top1}SQNR {decibels(whole.sqnr_db)}, {whole.flips} flips"
    if listed < len(report.layers):
        yield Text(f"the worst {listed} of {len(report.layers)} layers; the rest with --top or --json", "dim")
    if report.float_top1 is not None:
        yield Text(f"one image is {100 / report.images:.2g} of top-1: trust the SQNR where drops are that small", "dim")
    if report.calibration is not None:
        short = " (all there are; the recipe wants more)" if report.calibration.short else ""
        how = f"calibrated on {report.calibration.images:,} images{short} first"
        yield Text.assemble(("note", "yellow"), f" no ranges were at hand: {how}")
        if report.calibration.allow_leak:
            yield Text(LEAK, "bold red")


def _mended(report: SensitivityReport) -> Table:
    table = Table(title="the worst left out together", title_justify="left", box=None, pad_edge=False)
    table.add_column("layers", overflow="fold")
    for heading in ("top-1", "gain", "SQNR", "flips"):
        table.add_column(heading, justify="right", no_wrap=True)
    for excluded in report.mended:
        table.add_row(*_excluded_cells(excluded))
    return table


def _excluded_cells(excluded: Excluded) -> tuple[str, ...]:
    plus = "+ " if len(excluded.layers) > 1 else ""
    found = excluded.deviation
    top1 = "" if found.top1 is None else f"{found.top1:.2f}"
    return plus + shown(excluded.layers[-1]), top1, points(excluded.gain), decibels(found.sqnr_db), str(found.flips)


def decibels(value: float | None) -> str:
    """Returns a ratio as text; `exact` where there is no noise."""
    return "exact" if value is None else f"{value:.1f} dB"


def points(value: float | None) -> str:
    """Returns a difference of top-1 as text; nothing where it is not known."""
    # Adding zero turns -0.0 into 0.0.
    return "" if value is None else f"{value + 0.0:+.2f}"
