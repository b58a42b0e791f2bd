"""How much a graph computes: multiply-accumulates of each layer, for one image."""

from __future__ import annotations

import math

import onnx_ir as ir

from qzoo.runtimes.graph import nodes
from qzoo.runtimes.rules.layers import LAYERS


def multiply_accumulates(graph: ir.Graph) -> dict[str, int]:
    """Returns the multiply-accumulates of each layer for one image, by node name.

    Of a convolution: each weight times each place of the output; of a matrix product: output values times what each
    sums over. Layers of unknown shape count as 0.
    """
    return {node.name or "": _of(node) for node in nodes(graph, *LAYERS)}


def _of(node: ir.Node) -> int:
    weight, output = _shape(node.inputs[1]), _shape(node.outputs[0])
    if weight is None or output is None:
        return 0
    if node.op_type == "ConvTranspose":
        places = _shape(node.inputs[0])
        return 0 if places is None else math.prod(weight) * math.prod(places[2:])
    if node.op_type == "Conv":
        return math.prod(weight) * math.prod(output[2:])
    summed = _shape(node.inputs[0])
    return 0 if summed is None else math.prod(output[1:]) * summed[-1]


def _shape(value: ir.Value | None) -> list[int] | None:
    """Returns a shape in which what is not fixed, the batch, is 1."""
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else 1 for size in value.shape]
