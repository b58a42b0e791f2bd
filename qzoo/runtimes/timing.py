"""Latency of sessions, side by side in one run, and how much a graph computes: multiply-accumulates of each layer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import nodes
from qzoo.runtimes.rules.layers import LAYERS
from qzoo.runtimes.runtime import Feeds, Session

WARMUP, BLOCKS, BLOCK = 3, 6, 8
"""Runs before each block that are not measured; blocks of each session, in turn; runs of a block."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run.

    Attributes:
        median: the median of all runs.
        low: a tenth of the runs took less.
        high: a tenth took more.
    """

    median: float
    low: float
    high: float


def side_by_side(sessions: Mapping[str, Session], feeds: Feeds) -> Iterator[tuple[str, int]]:
    """Yields the name of a session and nanoseconds, run after run.

    In blocks: a runtime's threads go on spinning for a while after a run, and would slow the other session down.

    Args:
        sessions: by name.
        feeds: the inputs of both, by name.
    """
    for _ in range(BLOCKS):
        for name, session in sessions.items():
            for _ in range(WARMUP):
                session.run(feeds)
            for _ in range(BLOCK):
                start = time.perf_counter_ns()
                session.run(feeds)
                yield name, time.perf_counter_ns() - start


def latency(nanoseconds: list[int]) -> Latency:
    """Returns what many runs come to."""
    low, median, high = np.percentile(np.array(nanoseconds) / 1e6, [10, 50, 90])
    return Latency(float(median), float(low), float(high))


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
