"""Latency of sessions, side by side in one run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qzoo.runtimes.runtime import Array, Session

WARMUP, BLOCKS, BLOCK = 3, 6, 8
"""Runs before each block that are not measured; blocks of each session, in turn; runs of a block."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run.

    Attributes:
        median: of all runs.
        low: a tenth of the runs took less.
        high: a tenth took more.
    """

    median: float
    low: float
    high: float


def side_by_side(sessions: Mapping[str, Session], x: Array) -> Iterator[tuple[str, int]]:
    """Yields the name of a session and nanoseconds, run after run.

    In blocks: a runtime's threads go on spinning for a while after a run, and would slow the other session down.

    Args:
        sessions: by name.
        x: images `(N, C, H, W)`, float32.
    """
    for _ in range(BLOCKS):
        for name, session in sessions.items():
            for _ in range(WARMUP):
                session.run(x)
            for _ in range(BLOCK):
                start = time.perf_counter_ns()
                session.run(x)
                yield name, time.perf_counter_ns() - start


def latency(nanoseconds: list[int]) -> Latency:
    """Returns what many runs come to."""
    low, median, high = np.percentile(np.array(nanoseconds) / 1e6, [10, 50, 90])
    return Latency(float(median), float(low), float(high))
