"""`Histogram`: what a histogram collector hands to the solvers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Binning = Literal["aligned", "reference"]

ALIGNED_BINS = 4096
TWO_SIDED_REFERENCE = (
    "`binning: reference` counts magnitudes alone, as NVIDIA's toolkit does, so it finds no range with a zero point. "
    "Say `binning: aligned`, or `symmetric: true`, or solve by `max`."
)


@dataclass(frozen=True)
class Histogram:
    """Counts of magnitudes.

    Attributes:
        counts: int64 `(B,)`, on the CPU; of all values.
        edges: float64 `(B + 1,)`, from 0, in units of the tensor.
        amin: smallest value seen.
        amax: largest value seen.
        binning: how the edges were chosen.
        negatives: int64 `(B,)`, how many of the counted values are negative; None where that was not counted.
    """

    counts: Tensor
    edges: Tensor
    amin: float
    amax: float
    binning: Binning = "aligned"
    negatives: Tensor | None = None

    @property
    def magnitude(self) -> float:
        """The largest absolute value seen."""
        return max(abs(self.amin), abs(self.amax))

    @property
    def centres(self) -> Tensor:
        """The middle of each bin, float64 `(B,)`."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())


def aligned_edges(exponent: int) -> Tensor:
    """Returns the edges of aligned bins of width `2**exponent`, float64 `(4097,)`."""
    return torch.arange(ALIGNED_BINS + 1, dtype=torch.float64) * 2.0**exponent


def exponent_of(histogram: Histogram) -> int:
    """Returns k of aligned bins of width `2**k`.

    Example:
        >>> exponent_of(Histogram(torch.zeros(ALIGNED_BINS), aligned_edges(-7), 0.0, 1.0))
        -7
    """
    return math.frexp(float(histogram.edges[1]))[1] - 1
