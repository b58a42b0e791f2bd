"""A training: its curve and its schedule."""

from __future__ import annotations

from qzoo.report.html.blocks import Block, Cell, Column, Content, Facts, Mark, Section, Table, number
from qzoo.report.html.charts.training import training_curve
from qzoo.report.html.sections.flips import flip_section
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.results.details import Details
from qzoo.results.training import LogRow, TrainingReport
from qzoo.schema.datasets import dataset_named
from qzoo.schema.finetune import schedule_rows

COLUMNS = (
    Column("epoch", True), Column("step", True), Column("learning rate", True), Column("loss", True),
    Column("top-1, training", True), Column("top-1, evaluation", True),
)  # fmt: skip


def content(report: TrainingReport, details: Details) -> Content:
    """Returns what a page says of a training."""
    mark: Mark = "open"
    if report.top1 is not None and report.start_top1 is not None:
        mark = "good" if report.top1 >= report.start_top1 else "bad"
    sections = [training_section(report), *quantizer_sections(details), flip_section(details)]
    return Content(report.name or "model", _about(report), _verdict(report), mark, sections, report.environment)


def training_section(report: TrainingReport, title: str = "Training") -> Section:
    """Returns the section of a run: curve, epochs, schedule."""
    blocks: list[Block] = []
    if report.rows:
        judged = [row for row in report.rows if row.top1 is not None] or report.rows
        blocks = [training_curve(report), Table("Epochs", COLUMNS, [_row(row) for row in judged])]
    schedule = [(what, str(value)) for what, value in schedule_rows(report.finetune)]
    return Section(title, [*blocks, Facts([*schedule, ("seconds", f"{report.seconds:,.0f}"), ("date", report.date)])])


def _row(row: LogRow) -> list[Cell]:
    return [
        number(row.epoch, ".4g"), number(row.step, ",.0f"), number(row.lr, ".3g"), number(row.loss, ".4g"),
        number(row.train_top1), number(row.top1),
    ]  # fmt: skip


def _about(report: TrainingReport) -> str:
    where = dataset_named(report.dataset).title if report.dataset else "a dataset"
    judged = "" if report.eval_images is None else f", evaluated on {report.eval_images:,}"
    epochs = report.finetune.epochs
    return f"{epochs} {'epoch' if epochs == 1 else 'epochs'} on {report.images:,} images of {where}{judged}."


def _verdict(report: TrainingReport) -> str:
    if report.top1 is None or report.start_top1 is None:
        return f"Trained for {report.finetune.epochs} epochs; nothing was evaluated."
    gain = report.top1 - report.start_top1
    return f"Training took top-1 from {report.start_top1:.2f} % to {report.top1:.2f} %, {gain:+.2f} points."
