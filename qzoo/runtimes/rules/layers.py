"""Layers: what they read, and what stands between them and what a runtime fuses them with."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from qzoo.results.export import Finding
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, consumers, input_of, nodes, producer
from qzoo.runtimes.passes.fold_batch_norm import turns_the_lowest
from qzoo.runtimes.passes.padded_averages import pads_zero_points
from qzoo.runtimes.passes.stored_weight import dequantizer
from qzoo.runtimes.rules import error, note
from qzoo.runtimes.runtime import Runtime

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
IN_FLOAT = ("Einsum", "LSTM", "GRU", "RNN")
"""Layers of which no runtime has an integer kernel."""
ACTIVATIONS = ("Relu", "Clip")


def half_float(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A layer with one input in float is a float layer, quantized for nothing; one with both is told of."""
    for node in nodes(graph, *LAYERS):
        quantized = [dequantizer(value) is not None for value in node.inputs[:2]]
        if all(quantized):
            continue
        if not any(quantized):
            yield note("float-layer", node, "both inputs are float: it runs in float")
            continue
        which, source = ("second", node.inputs[1]) if quantized[0] else ("first", node.inputs[0])
        made = producer(source)
        found = made.op_type if made else "a float constant" if constant(source) is not None else "an input"
        yield error("half-float", node, f"its {which} input is {found}; quantize both inputs, or neither")


def without_kernel(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A layer of which runtimes have no integer kernel, whatever is quantized of it."""
    for node in nodes(graph, *IN_FLOAT):
        yield note("float-layer", node, f"{runtime.title} has no integer kernel of {node.op_type}: it runs in float")


def between(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A quantizer between a layer and its batch norm, or its activation, keeps them from being one operator."""
    for node in nodes(graph, QUANTIZE):
        layer = producer(node.inputs[0], *LAYERS)
        if layer is None:
            continue
        for pair in consumers(node.outputs[0]):
            after = next((one for one in consumers(pair.outputs[0]) if _fuses(one)), None)
            if pair.op_type == DEQUANTIZE and after is not None:
                yield error("between", node, f"it stands between {layer.name} and {after.name}; put it after these")


def _fuses(node: ir.Node) -> bool:
    return node.op_type in (*ACTIVATIONS, "BatchNormalization")


def batch_norm(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A batch norm that a runtime does not fold into the layer before it."""
    for node in nodes(graph, "BatchNormalization") if runtime.folds else ():
        layer = producer(node.inputs[0], *LAYERS)
        if layer is not None and len(consumers(layer.outputs[0])) == 1:
            if not runtime.weight_zero_points and turns_the_lowest(layer, node):
                continue  # folding would change the weight, and the runtime folds it itself
            yield error(
                "batch-norm", node, f"it follows {layer.name}; {runtime.title} needs it folded into the weights"
            )
        else:
            yield note("float-operator", node, "there is no layer of its own before it, so it runs in float")


def weight_axis(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """Scales of a weight that do not run along its output channels."""
    for node in nodes(graph, *LAYERS):
        stored = producer(node.inputs[1], DEQUANTIZE)
        scale = None if stored is None else constant(stored.inputs[1])
        if stored is None or scale is None or scale.size == 1:
            continue
        shape = node.inputs[1].shape if node.inputs[1] is not None else None
        shape = shape if shape is not None else (stored.inputs[0].shape if stored.inputs[0] is not None else None)
        dims = len(shape) if shape is not None else 2
        given = stored.attributes["axis"].as_int() if "axis" in stored.attributes else 1
        right = 0 if _is_depthwise_transposed(node, shape) else _output_axis(node, dims)
        if given % dims != right:
            yield error("weight-axis", stored, f"its scales run along axis {given} of the weight; channels are {right}")
        elif shape is not None and shape[right] != scale.size:
            yield error("weight-axis", stored, f"it has {scale.size} scales for {shape[right]} channels")


def _is_depthwise_transposed(node: ir.Node, shape: ir.Shape | None) -> bool:
    """Whether each input makes one output, so that channels lie along the inputs."""
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    return node.op_type == "ConvTranspose" and groups > 1 and shape is not None and list(shape[:2]) == [groups, 1]


def _output_axis(node: ir.Node, dims: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
        return 0 if transposed else 1
    return 1 if node.op_type == "ConvTranspose" else dims - 1


def stored_as_float(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A weight that is stored in float and quantized while the model runs: the file is four times as large."""
    for node in nodes(graph, QUANTIZE):
        values = constant(node.inputs[0])
        if values is not None and values.size > 1:
            yield error("stored-as-float", node, "it quantizes a constant; store the integers")


def padding(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """Padding between the quantizer and the layer, which then is no neighbour of its quantizer."""
    for node in nodes(graph, "Pad"):
        layer = next((one for one in consumers(node.outputs[0]) if one.op_type in LAYERS), None)
        if layer is not None and producer(node.inputs[0], DEQUANTIZE) is not None:
            yield error("padding", node, f"it stands between a quantizer and {layer.name}; make it the layer's `pads`")


def padded_average(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """An average that counts padding, which the runtime pads with another value than 0."""
    for node in nodes(graph, "AveragePool") if not runtime.pads_zero_points else ():
        if pads_zero_points(node):
            fault = (
                f"it counts padding, and {runtime.title} pads what has zero points, or was added to, with other values"
            )
            yield error("padded-average", node, f"{fault} than 0; make it a convolution, or count_include_pad=False")


def mixed_types(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """A layer that reads one integer type and writes another, where kernels have one for both."""
    if not runtime.shifted:
        return
    for node in nodes(graph, *LAYERS):
        before, after = producer(node.inputs[0], DEQUANTIZE), quantizer_after(node)
        if before is None or after is None:
            continue
        reads, writes = constant(input_of(before, 2)), constant(input_of(after, 2))
        if reads is not None and writes is not None and reads.dtype != writes.dtype:
            fault = f"it reads {reads.dtype.name} and writes {writes.dtype.name}"
            yield error("mixed-types", node, f"{fault}; {runtime.title} has kernels for one type")


def quantizer_after(node: ir.Node) -> ir.Node | None:
    """Returns the quantizer of a node's output, after the activation that is fused, if it is the only reader."""
    readers = consumers(node.outputs[0])
    while len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
        readers = consumers(readers[0].outputs[0])
    return readers[0] if len(readers) == 1 and readers[0].op_type == QUANTIZE else None
