"""Latency of sessions, side by side in one run, and how much a graph computes: multiply-accumulates of each layer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import nodes
from qzoo.runtimes.rules.layers import LAYERS
from qzoo.runtimes.runtime import Feeds, Session

WARMUP, BLOCKS, BLOCK = 3, 6, 8
"""Runs before each block that are not measured; blocks of each session, in turn; runs of a block."""
LEAST_WARMUP_MS, LEAST_BLOCK_MS, LEAST_BLOCK = 4.0, 8.0, 3
"""Of blocks in pairs: threads of the other session spin as long; runs of a block, at least, and how long they take."""
PAIRS_MS, MOST_PAIRS = 500.0, 4
"""Pairs of blocks are measured for as long, or until there are so many times as many as there have to be."""


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


@dataclass(frozen=True)
class Paired:
    """Two sessions that took turns, block by block.

    Attributes:
        first: milliseconds of the fastest run of each block of the first session.
        second: those of the second.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as long as the first the second took, in each pair of blocks."""
        return [second / first for first, second in zip(self.first, self.second, strict=True)]


def side_by_side(
    sessions: Mapping[str, Session], feeds: Feeds, *, blocks: int = BLOCKS, block: int = BLOCK, warmup: int = WARMUP
) -> Iterator[tuple[str, int]]:
    """Yields the name of a session and nanoseconds, run after run.

    In blocks: a runtime's threads go on spinning for a while after a run, and would slow the other session down.

    Args:
        sessions: by name.
        feeds: the inputs of both, by name.
        blocks: of each session, in turn.
        block: the runs of a block.
        warmup: runs before each block that are not measured.
    """
    for _ in range(blocks):
        for name, session in sessions.items():
            for _ in range(warmup):
                session.run(feeds)
            for _ in range(block):
                start = time.perf_counter_ns()
                session.run(feeds)
                yield name, time.perf_counter_ns() - start


def paired(first: Session, second: Session, feeds: Feeds, pairs: int) -> Paired:
    """Returns how long two sessions take, run in turn, in blocks that are as long as they have to be.

    Of each block the fastest run counts: whatever else a machine does only adds to one. Where that slows both down for
    a while, it does so in both blocks of a pair, so that ratios stay what they are.

    Args:
        first: a session.
        second: another with the same inputs.
        feeds: the inputs of both, by name.
        pairs: how many pairs of blocks there are at least; of a model that is fast, more.
    """
    usual = min(ns for _, ns in side_by_side({"": first}, feeds, blocks=1)) / 1e6
    block, warmup = max(LEAST_BLOCK, round(LEAST_BLOCK_MS / usual)), max(1, round(LEAST_WARMUP_MS / usual))
    pairs = min(max(pairs, round(PAIRS_MS / (2 * (block + warmup) * usual))), MOST_PAIRS * pairs)
    runs: dict[str, list[int]] = {"first": [], "second": []}
    sessions = {"first": first, "second": second}
    for name, ns in side_by_side(sessions, feeds, blocks=pairs, block=block, warmup=warmup):
        runs[name].append(ns)
    fastest = (np.array(runs[name]).reshape(pairs, block).min(1) / 1e6 for name in sessions)
    return Paired(*(tuple(map(float, milliseconds)) for milliseconds in fastest))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns between which of the values their median lies, with a confidence of at least 95 % from six values on.

    As many values as fair coins show heads are below a median, whatever their distribution: the k-th lowest and the
    k-th highest hold it with `1 - 2 P(heads < k)` (W. J. Conover, Practical Nonparametric Statistics, 3.2).

    Example:
        >>> median_interval([4, 1, 2, 6, 3, 5])
        (1, 6)
    """
    ordered, n = sorted(values), len(values)
    below = np.cumsum([math.comb(n, heads) / 2**n for heads in range(n)])
    k = max(int((below <= 0.025).sum()), 1)
    return ordered[k - 1], ordered[n - k]


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
