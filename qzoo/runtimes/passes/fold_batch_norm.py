"""Folding batch norm into the convolution before it, on the stored integers.

    y = (conv(x, w) + b - mean) * f + beta          f = gamma / sqrt(var + eps)
      = conv(x, w * f) + (b - mean) * f + beta

With `w = (values - zero) * scale` per output channel, `w * f = ((values - zero) * sign f) * (scale * |f|)`: the
integers stay, and only the scales change, so that nothing is rounded anew. Where `f < 0`, unsigned integers and their
zero points are counted from the other end of their grid: `(top - values) - (top - zero)`. Left in between, batch norm
keeps ONNX Runtime and OpenVINO from fusing an integer convolution; TensorRT folds it itself.

One scale for a whole weight becomes one for each channel, unless `f` is 1 in all of them: so `optimize: {fold: true}`
leaves batch norm, to the rounding of its float32 parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import (
    add_constant,
    constant,
    consumers,
    input_of,
    nodes,
    producer,
    remove_unread,
    replace_node,
)
from qzoo.runtimes.passes.stored_weight import along_channels, dequantized, steps, stored_weight

Array = np.ndarray[Any, Any]
ROUNDING = 2.0**-22
"""By how much `f` may be off 1 where batch norm was folded by value."""


def fold_batch_norms(graph: ir.Graph) -> int:
    """Folds each batch norm whose input is the output of one layer and of nobody else's, in place; returns how many.

    A batch norm that stays is one without a layer before it, as in a DenseNet.
    """
    folded = sum(_fold(graph, norm) for norm in nodes(graph, "BatchNormalization"))
    remove_unread(graph)
    return folded


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    layer = producer(norm.inputs[0], "Conv", "ConvTranspose", "Gemm")
    if layer is None or len(consumers(layer.outputs[0])) != 1 or layer.outputs[0].is_graph_output():
        return False
    factor, shift = _factor_and_shift(norm)
    weight = _folded_weight(graph, layer, factor)
    old = constant(input_of(layer, 2))
    if weight is None or (old is None and input_of(layer, 2) is not None):
        return False
    bias = shift + (0.0 if old is None else old.astype(np.float64)) * factor
    name = f"{(layer.name or 'layer').removesuffix('/Conv')}.folded_bias"
    inputs = [layer.inputs[0], weight, add_constant(graph, name, bias.astype(np.float32))]
    # At the layer's place, with the layer's name; then nobody reads the batch norm.
    new = replace_node(graph, layer, layer.op_type, inputs)
    readers = norm.outputs[0]
    new.outputs[0].shape, new.outputs[0].type = readers.shape, readers.type
    readers.replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    return True


def _factor_and_shift(norm: ir.Node) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (constant(value).astype(np.float64) for value in norm.inputs[1:5])
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    factor = gamma / np.sqrt(variance + epsilon)
    factor = np.where(np.abs(factor - 1) <= ROUNDING, 1.0, factor)
    return factor, beta - mean * factor


def _folded_weight(graph: ir.Graph, layer: ir.Node, factor: Array) -> ir.Value | None:
    """Returns the weight that holds the factor too: dequantized by other scales, or float."""
    stored, weight = stored_weight(layer), layer.inputs[1]
    if stored is not None and stored.scale.ndim == 0 and (factor == 1).all():
        return weight
    if stored is None:
        values = constant(weight)
        if weight is None or values is None:
            return None
        folded = values * along_channels(layer, factor, values.shape)
        return add_constant(graph, f"{weight.name}.folded", folded.astype(values.dtype))
    zero = _turned_zero_point(np.broadcast_to(stored.zero_point, factor.shape), factor, stored.values)
    # A channel that batch norm takes away, as one that starts at zero, gives exactly 0 and not the smallest scale.
    sign, shift = (along_channels(layer, one, stored.values.shape) for one in (np.sign(factor), zero.astype(float)))
    turned = _stored(steps(layer, stored) * sign + shift, stored.values.dtype)
    scale = np.maximum(np.abs(factor) * stored.scale.astype(np.float64), np.finfo(stored.scale.dtype).tiny)
    return dequantized(graph, layer, stored, turned, scale, zero, "folded")


def _turned_zero_point(zero: Array, factor: Array, values: Array) -> Array:
    """Returns the zero points of the channels once their values are turned by the sign of the factor."""
    if values.dtype.kind != "u":
        return zero
    bits = int(max(values.max(initial=0), zero.max(initial=0))).bit_length()
    return np.where(factor < 0, 2**bits - 1 - zero, zero).astype(zero.dtype)


def _stored(values: Array, dtype: Any) -> Array:
    if dtype.kind not in "iu":
        return values.astype(dtype)
    ends = np.iinfo(dtype)
    # The lowest value of a signed grid has no counterpart: it comes a step closer.
    return np.clip(values, ends.min, ends.max).astype(dtype)
