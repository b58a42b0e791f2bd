"""The curve of a training: loss, and top-1 of training and evaluation images."""

from __future__ import annotations

from qzoo.report.html.blocks import Chart
from qzoo.report.html.charts.canvas import FIRST, INK, LINE, QUIET, drawing, finished, quiet
from qzoo.results.training import TrainingReport

NOTE = (
    "Above: top-1 in percent; line: training images as they were seen, dots: evaluation images after an epoch. "
    "Below: loss."
)


def training_curve(report: TrainingReport) -> Chart:
    """Returns the chart of a run that has rows."""
    rows = report.rows
    with drawing(9.2, 4.2) as figure:
        accuracy, loss = figure.subplots(2, 1, sharex=True, height_ratios=[5, 3])
        epochs = [row.epoch for row in rows]
        accuracy.plot(epochs, [row.train_top1 for row in rows], color=QUIET, linewidth=1)
        judged = [(row.epoch, row.top1) for row in rows if row.top1 is not None]
        if judged:
            accuracy.plot(*zip(*judged, strict=True), "o-", color=FIRST, markersize=5, linewidth=1.6)
            accuracy.annotate(
                f"{judged[-1][1]:.2f}", judged[-1], xytext=(7, 0), textcoords="offset points", va="center",
                color=INK, fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        if report.start_top1 is not None:
            accuracy.axhline(report.start_top1, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
            accuracy.annotate(
                f"calibrated {report.start_top1:.2f}", (0, report.start_top1), xycoords=("axes fraction", "data"),
                xytext=(4, 3), textcoords="offset points", fontsize=8.5, color=QUIET,
            )  # fmt: skip
        accuracy.set_ylabel("top-1, percent")
        loss.plot(epochs, [row.loss for row in rows], color=INK, linewidth=1.2)
        loss.set_ylim(bottom=0)
        loss.set_ylabel("loss")
        loss.set_xlabel("epoch")
        for axes in (accuracy, loss):
            axes.grid(axis="y", color=LINE)
            quiet(axes, "left")
        return finished(figure, "Training curve", _words(report), NOTE)


def _words(report: TrainingReport) -> str:
    judged = [f"{row.top1:.2f} after epoch {row.epoch:g}" for row in report.rows if row.top1 is not None]
    start = "" if report.start_top1 is None else f" from {report.start_top1:.2f} calibrated"
    loss = f"Loss from {report.rows[0].loss:.3g} to {report.rows[-1].loss:.3g}."
    return f"Top-1 in percent{start}: {'; '.join(judged)}. {loss}"
