"""The section of a model card about its ONNX files: what they hold, and how close each runtime comes to the model."""

from __future__ import annotations

from collections.abc import Iterator

from qzoo.report.card_facts import CardFacts
from qzoo.report.markdown import table
from qzoo.results.export import ExportReport
from qzoo.weights.kinds import EXPORTS


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
    where = f" For {', '.join(stand_ins)}, ONNX Runtime without optimizations stood in." if stand_ins else ""
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
