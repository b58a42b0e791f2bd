"""The sections of a model card: figures, training, exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qzoo.hub.manifest import EXPORTS
from qzoo.report.card_facts import CardFacts, Measured, reproduce_command, verify_command, where
from qzoo.report.markdown import fenced, plain, table
from qzoo.results.export import ExportReport
from qzoo.results.training import TrainingReport
from qzoo.runtimes.registry import REFERENCE
from qzoo.schema.datasets import dataset_named
from qzoo.schema.finetune import schedule_rows
from qzoo.schema.recipe import Claim
from qzoo.weights.kinds import TRAINING

HEADINGS = ["model", ">top-1", ">top-5", ">drop of top-1", ">same prediction as float", ">published top-1"]
FIRST = ("qzoo", "torch")
"""Versions that are named before the others."""
MACHINE = ("cpu", "device", "processes", "threads")
"""What else the environment tells."""


def figures(facts: CardFacts) -> Iterator[str]:
    """Yields the section's paragraphs."""
    yield "## Figures"
    yield _remark(facts.measured)
    yield table(HEADINGS, [_float_row(facts), _quantized_row(facts)])
    yield from _sources(facts)
    yield _commands(facts)
    if facts.measured is not None:
        yield _circumstances(facts.measured)


def _remark(measured: Measured | None) -> str:
    if measured is None:
        return "**Not measured**: there is no receipt among the files, so no figure here is its own."
    if measured.complete:
        return f"In percent, measured on {where(measured)}."
    return (
        f"In percent. **Partial**: measured on {where(measured)}, which are not all that published figures are "
        f"measured on. One image is {100 / measured.images:.2g} points; the drop is surer than the two figures that "
        "it lies between, for both models saw the same images."
    )


def _float_row(facts: CardFacts) -> list[str]:
    found, claims = facts.measured, _claims(facts.published_float)
    if found is None:
        return ["float", "", "", "", "", claims]
    return ["float", _percent(found.float_top1), _percent(found.float_top5), "", "", claims]


def _quantized_row(facts: CardFacts) -> list[str]:
    found, claims = facts.measured, _claims(facts.published)
    if found is None:
        return ["quantized", "", "", "", "", claims]
    drop = "" if found.float_top1 is None or found.top1 is None else f"{found.float_top1 - found.top1 + 0.0:+.2f}"
    accuracy = [f"**{_percent(value)}**" if value is not None else "" for value in (found.top1, found.top5)]
    return ["quantized", *accuracy, drop, _percent(found.agreement), claims]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _claims(claims: Sequence[Claim]) -> str:
    return "; ".join(f"{claim}{' (own)' if claim.own else ''}" for claim in claims) or "none"


def _sources(facts: CardFacts) -> Iterator[str]:
    models = {"float": facts.published_float, "quantized": facts.published}
    by_source: dict[str, list[str]] = {}
    for model, claims in models.items():
        for claim in claims:
            source = f"an earlier run of our own, {plain(claim.source)}" if claim.own else plain(claim.source)
            by_source.setdefault(source, []).append(f"{model} {claim}")
    if by_source:
        lines = [f"- {', '.join(stated)}: {source}" for source, stated in by_source.items()]
        head = "Sources of what is published; a figure is met by a run that differs by no more than what follows the ±:"
        yield "\n".join([head, "", *lines])


def _commands(facts: CardFacts) -> str:
    lines = ["# Both rows: calibrates as the recipe says, measures both models, compares with what was published.",
             reproduce_command(facts)]  # fmt: skip
    if facts.measured is not None:
        lines += ["# The quantized row: recomputes the predictions behind it and compares them image by image.",
                  verify_command(facts)]  # fmt: skip
    return "To get these figures yourself:\n\n" + fenced("\n".join(lines), "bash")


def _circumstances(measured: Measured) -> str:
    known = {name: value for name, value in measured.environment.items() if name not in MACHINE}
    versions = [f"{name} {known[name]}" for name in sorted(known, key=lambda name: (name not in FIRST, name))]
    cpu, device, processes, threads = (measured.environment.get(name) for name in MACHINE)
    machine = [str(part) for part in (cpu, None if device == "cpu" else device) if part]
    counts = [f"{what}: {count}" for what, count in (("processes", processes), ("threads", threads)) if count]
    return f"Measured on {plain(measured.date)} with {plain(', '.join([*versions, *machine, *counts]))}."


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
