"""Stored weights the way round that their layer reads them, so that nothing stands between the two."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, nodes, producer, take_place


def transpose_weights(graph: ir.Graph) -> int:
    """Stores each weight that is dequantized and then transposed as its transpose, in place; returns how many.

    A linear layer of more than two dimensions is exported as a matrix product with the transposed weight; runtimes see
    a quantized product only where the product itself reads DequantizeLinear. No value changes, and the scales run along
    the axis that the channels go to. Who reads it untransposed too, as a layer called on two and on three dimensions,
    keeps it as it is.
    """
    return sum(_transposed(graph, node) for node in nodes(graph, "Transpose"))


def _transposed(graph: ir.Graph, node: ir.Node) -> bool:
    stored = producer(node.inputs[0], DEQUANTIZE)
    values = None if stored is None else constant(stored.inputs[0])
    if stored is None or values is None:
        return False
    order = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else [*range(values.ndim)][::-1]
    name = stored.inputs[0].name if stored.inputs[0] is not None else None
    turned = add_constant(graph, f"{name}.transposed", np.ascontiguousarray(values.transpose(order)))
    axis = stored.attributes["axis"].as_int() % values.ndim if "axis" in stored.attributes else 1
    attributes = [ir.AttrInt64("axis", order.index(axis))]
    new = ir.Node("", DEQUANTIZE, [turned, *stored.inputs[1:]], attributes=attributes, name=stored.name, num_outputs=1)
    take_place(graph, node, new)
    return True
