"""The stored weight of a layer in a graph: its integers, and a scale and zero point for each output channel.

    Conv, Gemm with transB   (out, ...)                   channel c owns weight[c]
    MatMul, other Gemm       (in, out)                    channel c owns weight[:, c]
    ConvTranspose            (in, out / groups, ...)      channel g * out / groups + j owns [inputs of group g, j]

DequantizeLinear knows scales and zero points along one axis. Those of a transposed convolution with several groups of
several channels lie along two: there the weight is stored with these two in one, and a Reshape follows.

Integers of 4 bits and fewer are stored two to a byte (ONNX has INT4 and UINT4 since opset 21); those of 7 bits stand
where products of 8 would overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, input_of, nodes, producer, remove_unread
from qzoo.runtimes.runtime import require

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoredWeight:
    """What a layer's DequantizeLinear reads.

    Attributes:
        node: the DequantizeLinear.
        values: as stored, in the shape that the layer reads.
        scale: `()`, or `(channels,)`.
        zero_point: what 0 is stored as, of the dtype of the values; shape of `scale`.
    """

    node: ir.Node
    values: Array
    scale: Array
    zero_point: Array

    @property
    def name(self) -> str:
        """What constants that are made of it are called after."""
        source = self.node.inputs[0]
        return (source.name if source is not None else None) or "weight"


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Returns the DequantizeLinear that makes a value, be it reshaped afterwards or not."""
    shaped = producer(value, "Reshape")
    node = producer(value if shaped is None else shaped.inputs[0], DEQUANTIZE)
    return node if shaped is None or node is None or constant(node.inputs[0]) is not None else None


def stored_weight(layer: ir.Node) -> StoredWeight | None:
    """Returns the stored weight of a layer; None where it is float, or its scales are not those of channels."""
    node = dequantizer(layer.inputs[1])
    values, scale = (None, None) if node is None else (constant(node.inputs[0]), constant(node.inputs[1]))
    zero = None if node is None else zero_point(node)
    if node is None or values is None or scale is None or zero is None or scale.ndim > 1:
        return None
    shaped = producer(layer.inputs[1], "Reshape")
    shape = values.shape if shaped is None else constant(shaped.inputs[1])
    if shape is None or len(shape) < 2:
        return None
    if scale.size == 1:
        return StoredWeight(node, values.reshape(shape), scale.reshape(()), zero.reshape(()))
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    along_axis = (along(one, axis % values.ndim, values.ndim) for one in (scale, zero))
    scales, zeros = (by_channel(layer, np.broadcast_to(one, values.shape).reshape(shape)) for one in along_axis)
    if (scales != scales[:, :1]).any() or (zeros != zeros[:, :1]).any():
        return None
    return StoredWeight(node, values.reshape(shape), scales[:, 0], zeros[:, 0])


def steps(layer: ir.Node, stored: StoredWeight) -> Array:
    """Returns the values of a layer's weight less their zero points, float64, in the shape that the layer reads."""
    zero = stored.zero_point.astype(np.float64)
    return stored.values.astype(np.float64) - (along_channels(layer, zero, stored.values.shape) if zero.ndim else zero)


def zero_point(node: ir.Node) -> Array | None:
    """Returns the zero points of a DequantizeLinear with stored values, shape of its scale; None if not constant."""
    values, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if values is None or scale is None:
        return None
    given = input_of(node, 2)
    return np.zeros(scale.shape, values.dtype) if given is None else constant(given)


def has_zero_point(node: ir.Node) -> bool:
    """Whether what a QuantizeLinear or DequantizeLinear stores is unsigned, or has 0 stored as another number."""
    zero = constant(input_of(node, 2))
    return zero is not None and (zero.dtype.kind == "u" or bool(zero.astype(np.float32).any()))


def dequantized(
    graph: ir.Graph, layer: ir.Node, old: StoredWeight, values: Array, scale: Array, zero: Array, suffix: str
) -> ir.Value:
    """Returns another weight of a layer, which is written in front of it.

    Args:
        graph: the graph of the layer.
        layer: that is to read it.
        old: in whose place it comes; the dtype of its scale is kept.
        values: in the shape that the layer reads.
        scale: `(channels,)`.
        zero: the zero points, `(channels,)`; of the dtype of `values`.
        suffix: the end of the names of what is new.
    """
    scales, zeros = (along_channels(layer, one, values.shape) for one in (scale.astype(old.scale.dtype), zero))
    axes = [dim for dim, size in enumerate(scales.shape) if size > 1] or [0]
    stored = values if len(axes) == 1 else values.reshape(-1, *values.shape[2:])
    shape: tuple[int, ...] = (-1,) if scales.size > 1 else ()
    inputs = [
        add_constant(graph, f"{old.name}.{suffix}", np.ascontiguousarray(stored)),
        add_constant(graph, f"{old.name}.{suffix}_scale", scales.reshape(shape)),
        add_constant(graph, f"{old.name}.{suffix}_zero_point", zeros.reshape(shape)),
    ]
    axis, dtype = [ir.AttrInt64("axis", axes[0])], ir.DataType.from_numpy(old.scale.dtype)
    node = ir.Node("", DEQUANTIZE, inputs, attributes=axis, name=old.node.name)
    value = _inserted(graph, layer, node, stored, dtype)
    if len(axes) == 1:
        return value
    apart = add_constant(graph, f"{old.name}.shape", np.array(values.shape, np.int64))
    reshape = ir.Node("", "Reshape", [value, apart], name=f"{old.node.name}/Reshape")
    return _inserted(graph, layer, reshape, values, dtype)


def by_channel(layer: ir.Node, weight: Array) -> Array:
    """Returns an array of the weight's shape as `(channels, values of each)`."""
    if layer.op_type == "ConvTranspose":
        groups, per_group = _groups(layer), weight.shape[1]
        apart = weight.reshape(groups, -1, per_group, int(np.prod(weight.shape[2:])))
        return apart.transpose(0, 2, 1, 3).reshape(groups * per_group, -1)
    return weight.reshape(len(weight), -1) if _channels_first(layer) else weight.reshape(-1, weight.shape[-1]).T


def along_channels(layer: ir.Node, vector: Array, shape: tuple[int, ...]) -> Array:
    """Returns a value for each channel in a shape that broadcasts against the weight."""
    if layer.op_type != "ConvTranspose":
        return along(vector, 0 if _channels_first(layer) else len(shape) - 1, len(shape))
    groups, per_group, rest = _groups(layer), shape[1], [1] * (len(shape) - 2)
    if groups == 1:
        return vector.reshape(1, per_group, *rest)
    return np.repeat(vector.reshape(groups, per_group), shape[0] // groups, axis=0).reshape(-1, per_group, *rest)


def along(array: Array, axis: int, dims: int) -> Array:
    """Returns a vector in the shape that broadcasts along an axis."""
    return array.reshape([-1 if dim == axis else 1 for dim in range(dims)])


def _groups(layer: ir.Node) -> int:
    return int(layer.attributes["group"].as_int()) if "group" in layer.attributes else 1


def _channels_first(layer: ir.Node) -> bool:
    if layer.op_type == "Gemm":
        return "transB" in layer.attributes and bool(layer.attributes["transB"].as_int())
    return layer.op_type == "Conv"


def _inserted(graph: ir.Graph, layer: ir.Node, node: ir.Node, like: Array, dtype: ir.DataType) -> ir.Value:
    graph.insert_before(layer, node)
    value: ir.Value = node.outputs[0]
    value.shape, value.type = ir.Shape(like.shape), ir.TensorType(dtype)
    value.name = f"{node.inputs[0].name}.dequantized" if node.inputs[0] is not None else None
    return value


def store_in_four_bits(graph: ir.Graph) -> int:
    """Stores each weight whose values fit 4 bits in 4, in place; returns how many.

    No value changes. The file is half as large; but integer kernels of CPU runtimes take 8 bits alone, so there such a
    layer is computed in float.
    """
    packed = [node for node in nodes(graph, DEQUANTIZE) if _packed(graph, node)]
    remove_unread(graph)
    return len(packed)


def _packed(graph: ir.Graph, node: ir.Node) -> bool:
    values, zero = constant(node.inputs[0]), zero_point(node)
    dtype = None if values is None or zero is None or values.size < 2 else _four_bits(values, zero)
    if values is None or zero is None or dtype is None or node.inputs[0] is None:
        return False
    name = f"{node.inputs[0].name}.int4"
    node.replace_input_with(0, add_constant(graph, name, values.astype(dtype)))
    if input_of(node, 2) is not None:
        node.replace_input_with(2, add_constant(graph, f"{name}_zero_point", zero.astype(dtype)))
    return True


def _four_bits(*arrays: Array) -> Any:
    ml_dtypes = require("ml_dtypes")
    for stored, narrow in ((np.int8, ml_dtypes.int4), (np.uint8, ml_dtypes.uint4)):
        ends = ml_dtypes.iinfo(narrow)
        if all(one.dtype == stored and one.min() >= ends.min and one.max() <= ends.max for one in arrays):
            return narrow
    return None


def write_seven_bits(source: Path, target: Path) -> None:
    """Writes a graph whose stored int8 weights are half as large, of scales twice as large.

    Its logits are near those of the graph itself, and no sum of two products overflows 16 bits: `255 * (64 + 64)`.

    Args:
        source: the graph.
        target: the file that is written.
    """
    model = ir.load(source)
    for node in nodes(model.graph, DEQUANTIZE):
        values, scale = constant(node.inputs[0]), constant(node.inputs[1])
        if values is None or scale is None or values.dtype != np.int8 or values.ndim < 2 or has_zero_point(node):
            continue
        halves = np.rint(values.astype(np.float32) / 2).astype(np.int8)
        node.replace_input_with(0, add_constant(model.graph, "half.values", halves))
        node.replace_input_with(1, add_constant(model.graph, "twice.scale", scale * scale.dtype.type(2)))
    ir.save(model, target)
