"""QuantizeLinear and DequantizeLinear come in pairs, of one scale that is positive and fits what it scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from qzoo.results.export import Finding
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, consumers, input_of, nodes, producer
from qzoo.runtimes.passes.stored_weight import has_zero_point
from qzoo.runtimes.rules import error, note
from qzoo.runtimes.runtime import Runtime

LEAST_HALF = 50 * 2.0**-24


def unpaired(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A quantizer whose integers something else than DequantizeLinear reads, or the other way round."""
    for node in nodes(graph, QUANTIZE):
        others = [one.op_type for one in consumers(node.outputs[0]) if one.op_type != DEQUANTIZE]
        if others or not consumers(node.outputs[0]):
            read = ", ".join(others) or "nothing"
            yield error("unpaired", node, f"its integers are read by {read}; only {DEQUANTIZE} may read them")
    for node in nodes(graph, DEQUANTIZE):
        if producer(node.inputs[0], QUANTIZE) is None and constant(node.inputs[0]) is None:
            made = producer(node.inputs[0])
            source = made.op_type if made else "an input of the graph"
            yield error("unpaired", node, f"it reads {source}; it has to read {QUANTIZE} or stored integers")


def other_scale(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A pair whose halves have different scales or zero points."""
    for node in nodes(graph, DEQUANTIZE):
        before = producer(node.inputs[0], QUANTIZE)
        if before is None:
            continue
        for place, what in ((1, "scale"), (2, "zero point")):
            one, other = constant(input_of(before, place)), constant(input_of(node, place))
            if (one is None) != (other is None) or (one is not None and not np.array_equal(one, other)):
                yield error("other-scale", node, f"its {what} is not that of {before.name}; the pair needs one")


def bad_scale(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A scale that is computed while the model runs, or not positive, or not finite."""
    for node in nodes(graph, QUANTIZE, DEQUANTIZE):
        scale = constant(node.inputs[1])
        if scale is None:
            yield error("bad-scale", node, "its scale is computed while the model runs; it has to be a constant")
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            worst = float(np.min(scale)) if np.isfinite(scale).all() else "NaN or Inf"
            yield error("bad-scale", node, f"its scale holds {worst}; scales are positive")


def half_scale(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A scale in float16 that is so small that a hundredth of it is lost: float16 ends in steps of 2^-24."""
    for node in nodes(graph, QUANTIZE, DEQUANTIZE):
        scale = constant(node.inputs[1])
        if scale is not None and scale.dtype == np.float16 and (lost := int((scale < LEAST_HALF).sum())):
            yield note("half-scale", node, f"{lost} of {scale.size} scales are below 3e-6, where float16 loses 1 %")


def per_channel_activation(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """An activation with a scale for each channel: no runtime computes that on integers."""
    for node in nodes(graph, QUANTIZE):
        scale = constant(node.inputs[1])
        if scale is not None and scale.size > 1 and constant(node.inputs[0]) is None:
            yield error("per-channel-activation", node, f"it has {scale.size} scales; an activation has one")


def zero_point(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A zero point or an unsigned type, where the runtime knows symmetric quantization alone."""
    if not runtime.symmetric:
        return
    for node in nodes(graph, QUANTIZE, DEQUANTIZE):
        zero = constant(input_of(node, 2))
        if zero is not None and has_zero_point(node):
            what = f"{zero.dtype.name} with zero point {zero.reshape(-1)[0]}"
            yield error("zero-point", node, f"it stores {what}; {runtime.title} takes signed types and 0 alone")


def weight_zero_point(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """Zero points with which a layer runs in float: of its weight, and of what a transposed convolution reads."""
    if runtime.symmetric or runtime.weight_zero_points:
        return
    for node in nodes(graph, DEQUANTIZE):
        if constant(node.inputs[0]) is not None and has_zero_point(node):
            fault = "it stores a weight with zero points, so that its layer runs in float"
            yield error("weight-zero-point", node, f"{fault}; for {runtime.title} weights are `symmetric: true`")
    for node in nodes(graph, "ConvTranspose"):
        zero = None if (read := producer(node.inputs[0], DEQUANTIZE)) is None else constant(input_of(read, 2))
        if zero is not None and zero.any():
            yield note("float-layer", node, "it reads zero points, so that it runs in float; `symmetric: true` for it")
