"""Tensors: one quantizer each; and additions of two of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from qzoo.results.export import Finding
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, consumers, input_of, nodes, producer
from qzoo.runtimes.rules import error, note
from qzoo.runtimes.rules.layers import ACTIVATIONS, quantizer_after
from qzoo.runtimes.runtime import Array, Runtime


def several_quantizers(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A tensor that is quantized more than once: what made it can't write integers for all its readers."""
    seen: dict[ir.Value, ir.Node] = {}
    for node in nodes(graph, QUANTIZE):
        value = node.inputs[0]
        if value is None:
            continue
        first = seen.setdefault(value, node)
        if first is not node:
            yield error("several-quantizers", node, f"{first.name} quantizes the same tensor; one has to serve all")


def signed_after_activation(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A signed quantizer after ReLU or ReLU6: half its steps are never used, and the activation stays an operator."""
    for node in nodes(graph, QUANTIZE) if not runtime.symmetric else ():
        zero = constant(input_of(node, 2))
        activation = producer(node.inputs[0], *ACTIVATIONS)
        if activation is None or zero is None or zero.dtype.kind not in "iu" or not _from_zero(activation):
            continue
        if int(zero.reshape(-1)[0]) != np.iinfo(zero.dtype).min or zero.dtype.kind == "i":
            kind = "is signed" if _in_the_middle(zero) else f"has a zero point of {zero.reshape(-1)[0]}"
            fault = f"it {kind}, after {activation.name}, which gives nothing below 0"
            if runtime.shifted:
                yield error("signed", node, f"{fault}; {runtime.title} fuses an unsigned one: unsigned: auto")
            else:
                yield note("signed", node, f"{fault}: steps below it are never used; unsigned: auto")


def _in_the_middle(zero: Array) -> bool:
    ends = np.iinfo(zero.dtype)
    return 2 * int(zero.reshape(-1)[0]) == ends.min + ends.max + 1


def _from_zero(activation: ir.Node) -> bool:
    if activation.op_type == "Relu":
        return True
    lowest = constant(input_of(activation, 1))
    return lowest is not None and lowest.size == 1 and float(lowest.reshape(-1)[0]) >= 0


def is_residual(node: ir.Node) -> bool:
    """Whether an addition is of two activations."""
    return all(constant(value) is None for value in node.inputs)


def requantized(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A tensor that is rounded, and rounded again by another scale."""
    for node in nodes(graph, QUANTIZE):
        before = producer(node.inputs[0], DEQUANTIZE)
        if before is not None:
            yield error("requantized", node, f"it rounds again what {before.name} gives")


def residual(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """An addition whose inputs are not quantized as the runtime can fuse it."""
    for node in nodes(graph, "Add"):
        if not is_residual(node):
            continue
        quantized = sum(producer(value, DEQUANTIZE) is not None for value in node.inputs)
        if quantized == 0:
            yield note("float-operator", node, "neither input is quantized: it runs in float")
        elif runtime.residual == "both" and quantized == 1:
            yield error("residual", node, f"one input is quantized; {runtime.title} needs both: residual: both")
        elif runtime.residual == "skip" and quantized == 2:
            yield error("residual", node, f"both inputs are quantized; {runtime.title} wants the skip: residual: skip")
        elif runtime.residual == "both" and quantizer_after(node) is None:
            readers = ", ".join(sorted({one.op_type for one in consumers(node.outputs[0])})) or "the output"
            yield note("float-operator", node, f"its output goes to {readers}, not to one quantizer: it runs in float")
