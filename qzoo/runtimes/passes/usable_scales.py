"""Scales that a runtime can use: with them, what is added to a layer's sums fits their type; and one for one tensor.

An integer layer adds its bias to sums of `x * w` in int32, in steps of `s_x * s_w`:

    abs(bias) < 2^31 * s_x * s_w        in every channel

A channel of zeros, by pruning or by a batch norm that is folded, has a scale that came of no value, and the channel of
a tiny one has a tiny scale. With either, ONNX Runtime loses the bias, and says nothing.

Where the stored integers of a channel are all 0, any scale serves: it gets one of whose steps the bias has 2^24, as
many as a float32 tells apart. Where they are not and the bias does not fit, the scale is raised until the bias has 2^30
steps, which leaves half of int32 to the sums, and the weights are rounded to it. A sum of K products is then off by at
most `K * 255 / 2^31` of the bias, mostly by far less: a step of 8 bits is 2^-8 of the largest output.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, bypass, constant, consumers, input_of, nodes, producer
from qzoo.runtimes.passes.stored_weight import Array, along_channels, by_channel, dequantized, steps, stored_weight

MOST_STEPS, EXACT_STEPS = 2.0**30, 2.0**24
SMALLEST_STEP = 2.0**-100
"""The smallest step of a sum: far above where float32 loses bits, far below what any output shows."""
MOVING = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "Pad", "Identity")
"""What runtimes move quantizers past."""


def make_scales_usable(graph: ir.Graph) -> int:
    """Gives channels whose bias does not fit another scale, in place; returns how many layers were changed."""
    return sum(_mend(graph, layer) for layer in nodes(graph, "Conv", "ConvTranspose", "Gemm", "MatMul"))


def _mend(graph: ir.Graph, layer: ir.Node) -> bool:
    stored = stored_weight(layer)
    if stored is None:
        return False
    values = steps(layer, stored)
    rows = by_channel(layer, values)
    before = np.broadcast_to(stored.scale.astype(np.float64), len(rows))
    # One scale for the whole weight came of its values, and serves a channel of zeros too.
    empty = np.asarray(~rows.any(1)) & (stored.scale.ndim > 0 or not rows.any())
    after = _usable(before, empty, np.abs(_bias(layer, len(rows))), _step_of_input(layer))
    of_type = np.finfo(stored.scale.dtype)
    after = np.maximum(after, of_type.smallest_subnormal if of_type.bits == 16 else of_type.tiny)
    after = after.astype(stored.scale.dtype).astype(np.float64)
    if (after == before).all():
        return False
    zero = np.broadcast_to(stored.zero_point, after.shape)
    ratio, shift = (along_channels(layer, one, values.shape) for one in (before / after, zero))
    scaled = (values * ratio if stored.values.dtype.kind not in "iu" else np.rint(values * ratio)) + shift
    new = scaled.astype(stored.values.dtype)
    layer.replace_input_with(1, dequantized(graph, layer, stored, new, after, zero, "usable"))
    return True


def _usable(scale: Array, empty: Array, bias: Array, step: float | None) -> Array:
    """Returns the scales of the channels of a weight, float64 `(channels,)`.

    Args:
        scale: as they are.
        empty: whether all integers of the channel are 0.
        bias: its magnitude.
        step: the step of what the layer reads; None where that is float, or the weight is of FP8: then there are no
            sums in int32.
    """
    exact = bias / EXACT_STEPS
    if step is not None:
        scale = np.maximum(scale, np.maximum(bias / MOST_STEPS, SMALLEST_STEP) / step)
        exact = np.maximum(exact, SMALLEST_STEP) / step
    usual = scale[~empty].max(initial=0) or 1.0
    return np.where(empty, np.where(bias > 0, exact, usual), scale)


def _step_of_input(layer: ir.Node) -> float | None:
    value = layer.inputs[0]
    while (moved := producer(value, *MOVING)) is not None:
        value = moved.inputs[0]
    made, weight = producer(value, DEQUANTIZE), stored_weight(layer)
    scale = None if made is None else constant(made.inputs[1])
    integers = weight is not None and weight.values.dtype.kind in "iu"
    return float(scale.reshape(-1)[0]) if integers and scale is not None and scale.size == 1 else None


def _bias(layer: ir.Node, channels: int) -> Array:
    """Returns the constant that is added for each channel, in the layer or right after it; zeros if there is none."""
    found = constant(input_of(layer, 2))
    readers = consumers(layer.outputs[0])
    if found is None and len(readers) == 1 and readers[0].op_type == "Add":
        found = next((one for one in map(constant, readers[0].inputs) if one is not None), None)
    if found is None or found.size not in (1, channels):
        return np.zeros(channels)
    return np.broadcast_to(found.astype(np.float64).reshape(-1), channels)


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
