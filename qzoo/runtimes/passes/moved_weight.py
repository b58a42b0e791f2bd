"""Weights that are transposed, sliced, gathered or reshaped before a product reads them, stored as it reads them.

Runtimes see a quantized product only where the product itself reads DequantizeLinear. What moves values and computes
none moves the stored integers as well, and scales and zero points along with them; no value changes:

    DequantizeLinear(values, scale) -> Transpose -> MatMul    DequantizeLinear(values', scale') -> MatMul

A linear layer of more than two dimensions is exported as a product with its transposed weight, and the projections of
an attention as slices of one weight.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, bypass, constant, nodes, producer
from qzoo.runtimes.passes.stored_weight import Array, along, zero_point

MOVES = ("Transpose", "Reshape", "Gather", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def store_as_read(graph: ir.Graph) -> int:
    """Stores each weight that is dequantized and then moved as it is moved to, in place; returns how many moves go.

    Who reads it unmoved too, as a layer called on two and on three dimensions, keeps it as it is. A move stays where
    scales or zero points would lie along two axes, of which DequantizeLinear knows one.
    """
    return sum(_folded(graph, node) for node in nodes(graph, *MOVES))


def _folded(graph: ir.Graph, node: ir.Node) -> bool:
    stored = producer(node.inputs[0], DEQUANTIZE)
    values, scale = (None, None) if stored is None else (constant(stored.inputs[0]), constant(stored.inputs[1]))
    zero = None if stored is None else zero_point(stored)
    if stored is None or values is None or scale is None or zero is None or scale.ndim > 1:
        return False
    axis = stored.attributes["axis"].as_int() % values.ndim if "axis" in stored.attributes and values.ndim else 0
    everywhere = [np.broadcast_to(along(a, axis, values.ndim) if a.ndim else a, values.shape) for a in (scale, zero)]
    arrays = [array.reshape(-1) for array in (values, *everywhere)]
    moved = [[array[places] for array in arrays] for places in _places(node, values.shape)]
    axes = [_axes(*others) for _, *others in moved]
    if not moved or any(len(one) > 1 or not others[0].size for one, others in zip(axes, moved, strict=True)):
        return False
    for output, (integers, *others), one in zip(node.outputs, moved, axes, strict=True):
        of_channels = [_channels(array, one) for array in others]
        _put(graph, node, stored, output, [integers, *of_channels], one[0] if one else 0)
    return True


def _places(node: ir.Node, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yields for each output of a move which values of its input stand where; nothing where that is not known."""
    others = {value.name or "": constant(value) for value in node.inputs[1:] if value is not None}
    if any(array is None for array in others.values()):
        return
    from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info
    from onnx.reference import ReferenceEvaluator

    moved = ir.to_proto(node)
    moved.input[0], outputs = "places", [make_tensor_value_info(name, 7, None) for name in moved.output]
    given = [make_tensor_value_info(name, 7, None) for name in ("places", *others)]
    model = make_model(make_graph([moved], "move", given, outputs), opset_imports=[make_opsetid("", 21)])
    places = np.arange(int(np.prod(shape))).reshape(shape)
    yield from map(np.asarray, ReferenceEvaluator(model).run(None, {"places": places, **others}))


def _axes(*arrays: Array) -> list[int]:
    """Returns the axes along which any of some arrays of one shape changes."""
    dims = range(arrays[0].ndim) if arrays[0].size else ()
    return [axis for axis in dims if any((one != one.take([0], axis)).any() for one in arrays)]


def _channels(array: Array, axes: list[int]) -> Array:
    """Returns what an array holds along an axis, `(C,)`, or everywhere, `()`."""
    return array[tuple(slice(None) if dim in axes else 0 for dim in range(array.ndim))]


def _put(graph: ir.Graph, node: ir.Node, stored: ir.Node, output: ir.Value, moved: list[Array], axis: int) -> None:
    """Puts a DequantizeLinear of values, scales and zero points in place of an output of a move."""
    source = stored.inputs[0].name if stored.inputs[0] is not None else None
    name = (source or "weight").partition(".moved")[0]
    inputs = [
        add_constant(graph, f"{name}.moved{what}", np.ascontiguousarray(array) if array.ndim else np.asarray(array))
        for what, array in zip(("", "_scale", "_zero_point"), moved, strict=True)
    ]
    new = ir.Node("", DEQUANTIZE, inputs, attributes=[ir.AttrInt64("axis", axis)], name=stored.name, num_outputs=1)
    graph.insert_before(node, new)
    made = new.outputs[0]
    made.shape, made.type = ir.Shape(moved[0].shape), stored.outputs[0].type
    bypass(graph, output, made)
