"""Training: the curve of a run as a picture, and the table of trained variants in docs/finetune.md.

Rewrite the table: `python -m qzoo.report.training docs/finetune.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qzoo import environment
from qzoo.errors import WeightsError
from qzoo.files import replacing, write_text
from qzoo.report.markdown import placed, table
from qzoo.report.sensitivity import GRID, INK, QUIET
from qzoo.results.training import LogRow, TrainingReport, read_training_report
from qzoo.schema.datasets import dataset_named
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.resolution.resolve import resolve
from qzoo.weights.kinds import RECEIPT, TRAINING, beside_recipe
from qzoo.weights.receipt import load_receipt

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SEEN, HELD_OUT, RATE = "#94a3b8", "#0f766e", "#6366f1"


def training_chart(report: TrainingReport, file: Path) -> None:
    """Writes a chart of a run.

    Args:
        report: with at least one row.
        file: `.png`, `.svg` or `.pdf`; replaced.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7.5), dpi=150, layout="constrained")
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 4, 1.5])
    _draw_loss(loss, report.rows)
    _draw_accuracy(accuracy, report)
    _draw_rate(rate, report.rows)
    figure.suptitle(_title(report), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    with replacing(file) as unfinished:
        figure.savefig(unfinished)


def _title(report: TrainingReport) -> str:
    spec = report.finetune
    scales = "learned scales" if spec.scales.learn else "fixed ranges"
    return (
        f"{report.name or 'model'}\n{spec.epochs} {'epoch' if spec.epochs == 1 else 'epochs'} on {report.images:,} "
        f"images of {dataset_named(report.dataset).title if report.dataset else 'a dataset'}, {scales}"
    )


def _draw_loss(axes: Axes, rows: list[LogRow]) -> None:
    axes.plot([row.epoch for row in rows], [row.loss for row in rows], color=INK, linewidth=1.3)
    axes.set_ylim(bottom=0)
    _style(axes, "training loss")


def _draw_accuracy(axes: Axes, report: TrainingReport) -> None:
    rows, start = report.rows, report.start_top1
    axes.plot([row.epoch for row in rows], [row.train_top1 for row in rows], color=SEEN, linewidth=1, label="training")
    judged = [(row.epoch, row.top1) for row in rows if row.top1 is not None]
    low, high = _span([row.train_top1 for row in rows], [top1 for _, top1 in judged])
    axes.set_ylim(low, high)
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= min(high, 100)])
    if judged:
        axes.plot(*zip(*judged, strict=True), color=HELD_OUT, marker="o", markersize=4, label="evaluation")
        axes.annotate(
            f"{judged[-1][1]:.2f}", judged[-1], xytext=(0, 6), textcoords="offset points", ha="right", fontsize=9,
            fontweight="bold", color=HELD_OUT,
        )  # fmt: skip
    if start is not None:
        _draw_start(axes, start, low, high)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _style(axes, "top-1, percent")


def _draw_start(axes: Axes, start: float, low: float, high: float) -> None:
    shown = min(max(start, low), high)
    outside = {-1: " (below the picture)", 0: "", 1: " (above the picture)"}[(start > high) - (start < low)]
    under = shown > (low + high) / 2
    axes.axhline(shown, color=QUIET, linewidth=0.8, linestyle=":")
    axes.annotate(
        # In the middle: to the left is where curves rise from, to the right the legend.
        f"calibrated: {start:.2f}{outside}", (0.5, shown), xycoords=("axes fraction", "data"), ha="center",
        xytext=(0, -4 if under else 3), va="top" if under else "bottom", textcoords="offset points", fontsize=8,
        color=QUIET,
    )  # fmt: skip


def _span(seen: list[float], judged: list[float]) -> tuple[float, float]:
    """Returns which percents the picture shows: a collapsed start would press all else against the upper edge."""
    shown = [*seen[len(seen) // 10 :], *judged[len(judged) // 10 :]]
    return max(0.0, min(shown) - 3), min(101.0, max(shown) + 2)


def _draw_rate(axes: Axes, rows: list[LogRow]) -> None:
    axes.plot([row.epoch for row in rows], [row.lr for row in rows], color=RATE, linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch", fontsize=9, color=QUIET)
    _style(axes, "learning rate")


def _style(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=9, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)


BEGIN, END = "<!-- trained variants: generated by make style -->", "<!-- end -->"
HEADINGS = ["variant", ">float", ">calibrated", ">trained", ">epochs", ">minutes", ">threads", "machine, date"]


def training_table(entries: Sequence[RecipeEntry]) -> str:
    """Returns the table, Markdown; top-1 in percent.

    Args:
        entries: the entries of shipped recipes.

    Raises:
        WeightsError: a report is of another state of its recipe than the shipped one.
    """
    return table(HEADINGS, [row for entry in entries for row in _rows(entry)])


def _rows(entry: RecipeEntry) -> Iterator[list[str]]:
    for variant in entry.variants:
        name = f"{entry.name}_{variant}"
        path, receipt = (beside_recipe(entry, name, kind) for kind in (TRAINING, RECEIPT))
        if path is None or not path.is_file() or receipt is None:
            continue
        report = read_training_report(path)
        if report.recipe_sha256 != resolve(entry, variant).digest:
            raise WeightsError(f"{path.name} is of another state of its recipe. Train again: qzoo finetune {name}")
        yield _row(name, report, load_receipt(receipt).info.top1["float"])


def _row(name: str, report: TrainingReport, float_top1: float) -> list[str]:
    machine = report.environment.get("cpu" if report.environment.get("device") == "cpu" else "device", "")
    return [
        f"`{name}`",
        f"{float_top1:.2f}",
        "" if report.start_top1 is None else f"{report.start_top1:.2f}",
        "" if report.top1 is None else f"**{report.top1:.2f}**",
        str(report.finetune.epochs),
        f"{report.seconds / 60:.1f}",
        str(report.environment.get("threads", "")),
        f"{machine}, {report.date}",
    ]


def main() -> None:
    """Writes the table into the file that is named."""
    path = Path(sys.argv[1])
    write_text(path, placed(path, BEGIN, END, training_table(Catalog([environment.packaged()]).entries)))


if __name__ == "__main__":
    main()
