"""Weights that are transposed, sliced, gathered or reshaped before a product reads them, stored as it reads them.

Runtimes see a quantized product only where the product itself reads DequantizeLinear. What moves values and computes
none moves the stored integers as well, and the scales along with them; no value changes:

    DequantizeLinear(values, scale) -> Transpose -> MatMul    DequantizeLinear(values', scale') -> MatMul

A linear layer of more than two dimensions is exported as a product with its transposed weight, and the projections of
an attention as slices of one weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, bypass, constant, input_of, nodes, producer
from qzoo.runtimes.passes.stored_weight import Array, along

MOVES = ("Transpose", "Reshape", "Gather", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def store_as_read(graph: ir.Graph) -> int:
    """Stores each weight that is dequantized and then moved as it is moved to, in place; returns how many moves go.

    Who reads it unmoved too, as a layer called on two and on three dimensions, keeps it as it is. A move stays where
    the scales would lie along two axes, of which DequantizeLinear knows one.
    """
    return sum(_folded(graph, node) for node in nodes(graph, *MOVES))


def _folded(graph: ir.Graph, node: ir.Node) -> bool:
    stored = producer(node.inputs[0], DEQUANTIZE)
    values, scale = (None, None) if stored is None else (constant(stored.inputs[0]), constant(stored.inputs[1]))
    if stored is None or values is None or scale is None or scale.ndim > 1 or input_of(stored, 2) is not None:
        return False
    axis = stored.attributes["axis"].as_int() % values.ndim if "axis" in stored.attributes and values.ndim else 0
    everywhere = np.broadcast_to(along(scale, axis, values.ndim) if scale.ndim else scale, values.shape)
    moved = [(values.reshape(-1)[places], everywhere.reshape(-1)[places]) for places in _places(node, values.shape)]
    along_one = [_along_one_axis(scales) for _, scales in moved]
    if not moved or any(one is None for one in along_one):
        return False
    for output, (integers, _), one in zip(node.outputs, moved, along_one, strict=True):
        assert one is not None
        _put(graph, node, stored, output, integers, *one)
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


def _along_one_axis(scales: Array) -> tuple[Array, int] | None:
    """Returns scales as `()`, or `(C,)` with the axis that they lie along; None where they lie along several."""
    axes = [axis for axis in range(scales.ndim) if (scales != scales.take([0], axis)).any()]
    if len(axes) > 1 or not scales.size:
        return None
    axis = axes[0] if axes else 0
    first = tuple(slice(None) if dim == axis else 0 for dim in range(scales.ndim))
    return (np.ascontiguousarray(scales[first]), axis) if axes else (scales.reshape(-1)[0], 0)


def _put(
    graph: ir.Graph, node: ir.Node, stored: ir.Node, output: ir.Value, values: Array, scale: Any, axis: int
) -> None:
    """Puts a DequantizeLinear in place of an output of a move."""
    source = stored.inputs[0].name if stored.inputs[0] is not None else None
    name = (source or "weight").partition(".moved")[0]
    inputs = [
        add_constant(graph, f"{name}.moved", np.ascontiguousarray(values)),
        add_constant(graph, f"{name}.moved_scale", np.asarray(scale)),
    ]
    new = ir.Node("", DEQUANTIZE, inputs, attributes=[ir.AttrInt64("axis", axis)], name=stored.name, num_outputs=1)
    graph.insert_before(node, new)
    made = new.outputs[0]
    made.shape, made.type = ir.Shape(values.shape), stored.outputs[0].type
    bypass(graph, output, made)
