"""Folding batch norm into the convolution before it, on the stored integers.

    y = (conv(x, w) + b - mean) * f + beta          f = gamma / sqrt(var + eps)
      = conv(x, w * f) + (b - mean) * f + beta

With `w = (values - zero) * scale` per output channel, `w * f = ((values - zero) * sign f) * (scale * |f|)`: the
integers stay, and only the scales change, so that nothing is rounded anew. Where `f < 0`, unsigned integers and their
zero points are counted from the other end of their grid: `(top - values) - (top - zero)`. The lowest signed integer
has no counterpart: a weight that holds it there is stored unsigned, with zero points, for a runtime that computes with
those on integers; for another its batch norm stays. Left in between, batch norm keeps ONNX Runtime from fusing an
integer convolution; TensorRT folds it itself, and so does OpenVINO, as far as the kernels of release 2026.4 tell.

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
from qzoo.runtimes.passes.stored_weight import (
    StoredWeight,
    along_channels,
    dequantized,
    dequantizer,
    steps,
    stored_weight,
)

Array = np.ndarray[Any, Any]
ROUNDING = 2.0**-22
"""By how much `f` may be off 1 where batch norm was folded by value."""


def fold_batch_norms(graph: ir.Graph, *, unsigned: bool = True) -> int:
    """Folds each batch norm whose input is the output of one layer and of nobody else's, in place; returns how many.

    A batch norm that stays is one without a layer before it, as in a DenseNet.

    Args:
        graph: as it was exported.
        unsigned: a signed weight may become unsigned; otherwise batch norms stay that turn its lowest integer round.
    """
    folded = sum(_fold(graph, norm, unsigned) for norm in nodes(graph, "BatchNormalization"))
    remove_unread(graph)
    return folded


def turns_the_lowest(layer: ir.Node, norm: ir.Node) -> bool:
    """Whether a batch norm may turn the sign of a signed weight's lowest integer, which has no counterpart."""
    node, gamma = dequantizer(input_of(layer, 1)), constant(input_of(norm, 1))
    values = None if node is None else constant(node.inputs[0])
    if values is None or gamma is None or values.dtype.kind != "i":
        return False
    return bool(values.min(initial=0) == np.iinfo(values.dtype).min) and bool((gamma < 0).any())


def _fold(graph: ir.Graph, norm: ir.Node, unsigned: bool) -> bool:
    layer = producer(norm.inputs[0], "Conv", "ConvTranspose", "Gemm")
    if layer is None or len(consumers(layer.outputs[0])) != 1 or layer.outputs[0].is_graph_output():
        return False
    if not unsigned and turns_the_lowest(layer, norm):
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
    turned = _turned_steps(layer, stored, factor)
    zero = _turned_zero_point(stored, factor, outgrown=_outgrows(turned, stored))
    turned = (turned + along_channels(layer, zero.astype(float), turned.shape)).astype(zero.dtype)
    # A channel that batch norm takes away, as one that starts at zero, gives exactly 0 and not the smallest scale.
    scale = np.maximum(np.abs(factor) * stored.scale.astype(np.float64), np.finfo(stored.scale.dtype).tiny)
    return dequantized(graph, layer, stored, turned, scale, zero, "folded")


def _turned_steps(layer: ir.Node, stored: StoredWeight, factor: Array) -> Array:
    """Returns the weight in steps, less its zero points, times the sign of the factor; float64."""
    turned: Array = steps(layer, stored) * along_channels(layer, np.sign(factor), stored.values.shape)
    return turned


def _outgrows(turned: Array, stored: StoredWeight) -> bool:
    dtype = stored.values.dtype
    return dtype.kind == "i" and bool(turned.max(initial=0) > np.iinfo(dtype).max)


def _turned_zero_point(stored: StoredWeight, factor: Array, *, outgrown: bool) -> Array:
    """Returns the zero points of the channels once their values are turned by the sign of the factor."""
    zero = np.broadcast_to(stored.zero_point, factor.shape)
    if outgrown:
        # From the middle of the unsigned grid -128 .. 127 are counted, and from one below it -127 .. 128.
        middle = np.iinfo(stored.values.dtype).max + 1
        return np.where(factor < 0, middle - 1, middle).astype(f"u{stored.values.dtype.itemsize}")
    if stored.values.dtype.kind != "u":
        return zero
    bits = int(max(stored.values.max(initial=0), zero.max(initial=0))).bit_length()
    return np.where(factor < 0, 2**bits - 1 - zero, zero).astype(zero.dtype)
