"""The sensitivity of a variant's layers, as a table for a terminal and as a chart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.errors import shown
from qzoo.files import replacing
from qzoo.report.table import LEAK
from qzoo.results.sensitivity import Excluded, LayerSensitivity, SensitivityReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


HEADINGS = ("SQNR alone", "drop alone", "by drop", "flips", "gain left out")


def sensitivity_table(report: SensitivityReport, top: int | None = None) -> Iterator[RenderableType]:
    """Yields what to print of a report: the layers, worst first, and what leaving out the worst brings.

    Args:
        report: the report of `qzoo.sensitivity`.
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


INK, QUIET, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BAD, GOOD, USUAL = "#c2410c", "#0f766e", "#94a3b8"
ROW, MARGIN = 0.24, 1.35
"""Inches: of a layer, and of title and axes together."""


def sensitivity_chart(report: SensitivityReport, file: Path, top: int | None = None) -> None:
    """Writes a chart of the layers, worst noise alone first; the longer the bar, the worse.

    Left: the noise of each layer quantized alone, in percent of the signal's power, with the ratio in dB beside it.
    Right, where there are labels: points of top-1 that the layer alone costs, and that leaving it out brings.

    Args:
        report: the report of `qzoo.sensitivity`.
        file: `.png`, `.svg` or `.pdf`; replaced.
        top: how many layers; default: all.
    """
    from matplotlib.figure import Figure

    layers, labelled = report.layers[:top], report.float_top1 is not None
    figure = Figure(figsize=(11 if labelled else 7.5, MARGIN + ROW * len(layers)), dpi=150, layout="constrained")
    panels = figure.subplots(1, 1 + labelled, sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + labelled])[0]
    _draw_noise(panels[0], report, layers)
    if labelled:
        _draw_points(panels[1], report, layers)
    figure.suptitle(_chart_title(report, len(layers)), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    with replacing(file) as unfinished:
        figure.savefig(unfinished)


def noise_percent(sqnr_db: float | None) -> float:
    """Returns the noise in percent of the signal's power.

    Example:
        >>> noise_percent(20.0)
        1.0
    """
    return 0.0 if sqnr_db is None else 100 * 10 ** (-sqnr_db / 10)


def _chart_title(report: SensitivityReport, shown: int) -> str:
    where = f"{report.dataset} {report.split}, " if report.dataset else ""
    which = "" if shown == len(report.layers) else f", worst {shown} of {len(report.layers)} layers"
    return f"{report.name}: sensitivity to quantization{which}  ({where}{report.images:,} images)"


def _draw_noise(axes: Axes, report: SensitivityReport, layers: list[LayerSensitivity]) -> None:
    worst = set(report.mended[-1].layers) if report.mended else {layers[0].name}
    noise = [noise_percent(layer.alone.sqnr_db) for layer in layers]
    colors = [BAD if layer.name in worst else USUAL for layer in layers]
    bars = axes.barh(range(len(layers)), noise, color=colors, height=0.72)
    axes.bar_label(bars, [decibels(layer.alone.sqnr_db) for layer in layers], padding=4, fontsize=8, color=INK)
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8.5, color=INK)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, max(*noise, 1e-9) * 1.15)
    whole = report.quantized
    top1 = "" if whole.top1 is None else f"top-1 {report.float_top1:.2f} to {whole.top1:.2f}, "
    axes.set_title(f"everything quantized: {top1}SQNR {decibels(whole.sqnr_db)}", loc="left", fontsize=8.5, color=QUIET)
    _style(axes, "noise in the logits with this layer alone quantized, % of the signal's power (labels: SQNR)")


def _draw_points(axes: Axes, report: SensitivityReport, layers: list[LayerSensitivity]) -> None:
    drops, gains = [layer.drop or 0.0 for layer in layers], [layer.gain or 0.0 for layer in layers]
    rows = range(len(layers))
    axes.barh([row - 0.19 for row in rows], drops, height=0.36, color=BAD, label="lost with it alone")
    axes.barh([row + 0.19 for row in rows], gains, height=0.36, color=GOOD, label="won when it is left out")
    axes.axvline(0, color=QUIET, linewidth=0.8)
    # A few images are noise, and should not fill the panel.
    least = 500 / report.images
    axes.set_xlim(min(-least, *drops, *gains) * 1.08, max(least, *drops, *gains) * 1.08)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8.5, frameon=False, borderaxespad=0.1,
                labelcolor=QUIET)  # fmt: skip
    _style(axes, "points of top-1")


def _style(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=8.5, color=QUIET)
    axes.tick_params(axis="x", labelsize=8, colors=QUIET)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
