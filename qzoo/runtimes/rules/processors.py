"""What depends on the processor: sums of products in 16 bits, without VNNI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from qzoo.results.export import Finding
from qzoo.runtimes.graph import DEQUANTIZE, constant, input_of, nodes, producer
from qzoo.runtimes.rules import note
from qzoo.runtimes.rules.layers import LAYERS
from qzoo.runtimes.runtime import Array, Runtime

LARGEST_INPUT, LARGEST_SUM = 255, 32767


def saturation(graph: ir.Graph, runtime: Runtime) -> Iterator[Finding]:
    """Layers whose integers may overflow on CPUs without VNNI, in one finding.

    There, `vpmaddubsw` adds two products of an unsigned 8-bit input and a signed 8-bit weight in 16 bits: 255 times the
    sum of two neighbouring weights may exceed 32,767. Signed inputs are made unsigned for it, by adding 128. Weights of
    7 bits (`reduce_range`) can't.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW.
    """
    layers = may_saturate(graph, runtime)
    if layers:
        more = f" and {len(layers) - 1} more layers" if len(layers) > 1 else ""
        yield note(
            "saturation", layers[0],
            f"it{more} may overflow 16 bits on CPUs without VNNI; export with --reduce-range, or ask `qzoo doctor`",
        )  # fmt: skip


def may_saturate(graph: ir.Graph, runtime: Runtime) -> list[ir.Node]:
    """Returns the layers of which two products may overflow 16 bits."""
    large: dict[ir.Value | None, bool] = {}  # a weight is looked at once, however many layers read it
    return [] if runtime.symmetric else [node for node in nodes(graph, *LAYERS) if _may_saturate(node, large)]


def _may_saturate(node: ir.Node, large: dict[ir.Value | None, bool]) -> bool:
    stored, before = producer(node.inputs[1], DEQUANTIZE), producer(node.inputs[0], DEQUANTIZE)
    weight = None if stored is None else stored.inputs[0]
    values = constant(weight)
    reads = None if before is None else constant(input_of(before, 2))
    if values is None or values.dtype != np.int8 or reads is None or reads.dtype not in (np.uint8, np.int8):
        return False
    if weight not in large:
        large[weight] = _has_large_pair(values)
    return large[weight]


def _has_large_pair(values: Array) -> bool:
    # Which two weights of a channel are neighbours in memory is a kernel's to decide: at worst the largest two.
    rows = np.sort(values.reshape(values.shape[0], -1).astype(np.int32), axis=1)
    largest = max(int(rows[:, -2:].sum(1).max()), -int(rows[:, :2].sum(1).min()))
    return largest * LARGEST_INPUT > LARGEST_SUM
