"""Sections of a model card that not every model has: its ONNX files, and how it was trained."""

from __future__ import annotations

from collections.abc import Iterator

from qzoo.hub.files import EXPORTS
from qzoo.report.card_facts import CardFacts
from qzoo.report.markdown import plain, table
from qzoo.results.export import ExportReport
from qzoo.results.training import TrainingReport
from qzoo.runtimes.registry import REFERENCE
from qzoo.schema.datasets import dataset_named
from qzoo.schema.finetune import schedule_rows
from qzoo.weights.kinds import TRAINING


def exports(facts: CardFacts) -> Iterator[str]:
    """Yields the section's paragraphs; none where no runtime was exported for."""
    if not facts.exports:
        return
    yield "## In a runtime"
    yield (
        "ONNX files with explicit quantization: one QuantizeLinear/DequantizeLinear pair for each quantizer, of its "
        "scale, and weights as the integers that they are."
    )
    headings = ["file", ">layers quantized", ">images compared", ">same top-1, %", ">largest error of a quantizer"]
    yield table(headings, [_row(report) for report in facts.exports])
    stand_ins = [one.runtime for one in facts.exports if one.parity is not None and not one.parity.own_runtime]
    where = f" For {', '.join(stand_ins)}, {REFERENCE.title} without optimizations stood in." if stand_ins else ""
    yield (
        "Compared with the fake-quantized model, in the runtime itself. The error is that of quantizers which are fed "
        f"with the model's own values, in steps.{where} `{EXPORTS}` has each of them."
    )


def _row(report: ExportReport) -> list[str]:
    parity = report.parity
    layers = f"{report.quantized_layers} of {report.layers}"
    if parity is None:
        return [f"`{report.file}`", layers, "0", "", ""]
    worst = str(max((node.alone for node in parity.nodes), default=0)) if parity.nodes else ""
    return [f"`{report.file}`", layers, str(parity.images), f"{parity.agreement:.1f}", worst]


MOST_EPOCHS = 20
"""Rows of the table; of a longer run, some epochs stand for all."""


def training(facts: CardFacts) -> Iterator[str]:
    """Yields the section's paragraphs; none for a model that calibration alone made."""
    report = facts.training
    if report is None:
        return
    yield "## How it was trained"
    yield _summary(report)
    yield table(["what", "value"], [[what, value] for what, value in schedule_rows(report.finetune)])
    yield table(["epoch", ">training loss", ">training top-1", ">top-1"], list(_epochs(report)))
    yield f"`{TRAINING.file}` has the whole curve, and what it was run on."


def _summary(report: TrainingReport) -> str:
    start = "" if report.start_top1 is None else f" Top-1 was {report.start_top1:.2f} after calibration alone."
    where = report.environment.get("cpu") if report.environment.get("device") == "cpu" else None
    machine = where or report.environment.get("device", "")
    processes = f", {report.processes} processes" if report.processes > 1 else ""
    long = report.seconds >= 120
    time = f"{report.seconds / 60:.0f} minutes" if long else f"{report.seconds:.0f} seconds"
    dataset = plain(dataset_named(report.dataset).title)
    return (
        f"With its quantizers on, on {report.images:,} images of {dataset} an epoch, in {time} "
        f"({plain(str(machine))}{processes}), {report.date}.{start}"
    )


def _epochs(report: TrainingReport) -> Iterator[list[str]]:
    ends = [row for row in report.rows if row.step % report.steps_per_epoch == 0]
    every = -(-len(ends) // MOST_EPOCHS)
    for place, row in enumerate(ends):
        if (len(ends) - 1 - place) % every == 0:
            top1 = "" if row.top1 is None else f"{row.top1:.2f}"
            yield [f"{row.epoch:g}", f"{row.loss:.3f}", f"{row.train_top1:.2f}", top1]
