"""One quantizer for one tensor: pairs of equal scale on one tensor become one, however many layers read it."""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, bypass, constant, nodes


def share_quantizers(graph: ir.Graph) -> int:
    """Merges QuantizeLinear, and DequantizeLinear of activations, that do the same, in place; returns how many.

    Runtimes fuse an operator only between one quantizer before and one after it.
    """
    first: dict[Hashable, ir.Node] = {}
    merged = 0
    for node in nodes(graph, QUANTIZE, DEQUANTIZE):
        if constant(node.inputs[0]) is not None:
            continue
        key = (node.op_type, node.inputs[0], *map(_content, node.inputs[1:]))
        kept = first.setdefault(key, node)
        if kept is not node:
            bypass(graph, node.outputs[0], kept.outputs[0])
            graph.remove(node, safe=True)
            merged += 1
    return merged


def _content(value: ir.Value | None) -> Hashable:
    array = constant(value)
    return value if array is None else (str(array.dtype), array.shape, array.tobytes())
