"""Averages that count their padding, which runtimes compute otherwise than torch.

OpenVINO (2026.4) moves dequantization behind an average pooling, with what was added to a dequantized tensor, and lets
the pooling pad what is left with 0. Where 0 is stored as another integer, or was added to, that is another value. An
explicit Pad it fuses into the pooling again. A window that counts its padding has one divisor wherever it lies, so that
its average is a convolution of each channel by itself; those every runtime pads with what 0 is stored as:

    average(x) = conv(x, w)        w is stored as the integer 1, of the scale 1 / (values of the window)

With `ceil_mode`, windows may reach beyond the padding. What lies there does not count for torch, nor in ONNX; OpenVINO
counts it, and so does ONNX Runtime's integer kernel (1.32). There an explicit Pad stays, and leaves nothing to count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, add_constant, constant, input_of, nodes, producer, take_place

BARRIERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", QUANTIZE)
"""Behind these no dequantization before them is moved."""
SHARED = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")
"""The attributes that a pooling and a convolution have in common."""


def pad_before_overhanging(graph: ir.Graph) -> int:
    """Puts an explicit Pad before each average whose windows may reach beyond its padding, in place; tells how many."""
    changed = [
        node
        for node in nodes(graph, "AveragePool")
        if _counts_padding(node) and _attribute(node, "ceil_mode", 0) and "pads" in node.attributes
    ]
    for node in changed:
        pads = tuple(_attribute(node, "pads", ()))
        begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        amounts = add_constant(graph, f"{node.name}.pads", np.array([0, 0, *begins, 0, 0, *ends], np.int64))
        pad = ir.Node("", "Pad", [node.inputs[0], amounts], name=f"{node.name}/Pad")
        graph.insert_before(node, pad)
        pad.outputs[0].type = None if node.inputs[0] is None else node.inputs[0].type
        node.replace_input_with(0, pad.outputs[0])
        node.attributes["pads"] = ir.AttrInt64s("pads", [0] * len(pads))
    return len(changed)


def averages_to_convolutions(graph: ir.Graph) -> int:
    """Puts a convolution in place of each average that `pads_zero_points`, in place; returns how many.

    One of a tensor whose number of channels the graph does not tell stays, and the rules tell of it.
    """
    return sum(_replaced(graph, node) for node in nodes(graph, "AveragePool") if pads_zero_points(node))


def pads_zero_points(node: ir.Node) -> bool:
    """Whether an AveragePool counts its padding, and reads what was dequantized by more than a scale.

    What other operators make of a dequantized tensor, such as `MaxPool(x)` or `1 - x`, may have been.
    """
    if not _counts_padding(node) or _attribute(node, "ceil_mode", 0):
        return False
    if (direct := producer(node.inputs[0], DEQUANTIZE)) is not None:
        zero = constant(input_of(direct, 2))
        return zero is not None and bool(zero.astype(np.float32).any())
    return _is_behind_dequantization(node)


def _counts_padding(node: ir.Node) -> bool:
    padded = any(_attribute(node, "pads", ())) or _attribute(node, "auto_pad", "NOTSET").startswith("SAME")
    return padded and bool(_attribute(node, "count_include_pad", 0))


def _is_behind_dequantization(node: ir.Node) -> bool:
    seen, waiting = set(), [node]
    while waiting:
        before = [producer(value) for value in waiting.pop().inputs]
        found = [one for one in before if one is not None and one not in seen and one.op_type not in BARRIERS]
        if any(one.op_type == DEQUANTIZE for one in found):
            return True
        seen.update(found)
        waiting += found
    return False


def _replaced(graph: ir.Graph, node: ir.Node) -> bool:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    channels = None if shape is None else shape[1]
    if not isinstance(channels, int):
        return False
    name, window = node.name or "average", tuple(_attribute(node, "kernel_shape", ()))
    ones, scale = np.ones((channels, 1, *window), np.int8), np.array(1 / math.prod(window), np.float32)
    if producer(node.inputs[0], DEQUANTIZE) is None:
        weight = add_constant(graph, f"{name}.window", ones * scale)
    else:
        weight = _dequantized(graph, node, {"ones": ones, "scale": scale, "zero_point": np.array(0, np.int8)})
    attributes = [node.attributes[name] for name in SHARED if name in node.attributes]
    attributes.append(ir.AttrInt64("group", channels))
    take_place(graph, node, ir.Node("", "Conv", [node.inputs[0], weight], attributes=attributes, name=node.name))
    return True


def _dequantized(graph: ir.Graph, layer: ir.Node, stored: dict[str, np.ndarray[Any, Any]]) -> ir.Value:
    inputs = [add_constant(graph, f"{layer.name}.{name}", array) for name, array in stored.items()]
    node = ir.Node("", DEQUANTIZE, inputs, name=f"{layer.name}/{DEQUANTIZE}")
    graph.insert_before(layer, node)
    value = node.outputs[0]
    value.shape, value.type, value.name = inputs[0].shape, ir.TensorType(ir.DataType.FLOAT), f"{layer.name}.window"
    return value


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    return node.attributes[name].value if name in node.attributes else default
