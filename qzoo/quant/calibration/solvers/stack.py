"""Histograms of equal length as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qzoo.quant.calibration.histogram import Binning, Histogram

FIRST_BIN = 128
"""The smallest range that is tried holds so many bins: a smaller one clips nearly everything. As in the reference."""


class Search(NamedTuple):
    """Which bins mse and entropy try as the last one of the range: `first`, `first + stride`, ..."""

    first: int = FIRST_BIN
    stride: int = 1


EVERY_BIN = Search()


class Stack(NamedTuple):
    """n histograms of B bins; all float64.

    Attributes:
        counts: `(n, B)`.
        edges: `(n, B + 1)`.
        magnitude: `(n,)`, the largest absolute value seen.
        binning: the binning of all of them.
    """

    counts: Tensor
    edges: Tensor
    magnitude: Tensor
    binning: Binning

    @property
    def centres(self) -> Tensor:
        """The middle of each bin, `(n, B)`."""
        return (self.edges[:, 1:] + self.edges[:, :-1]) / 2


def stack(histograms: Sequence[Histogram]) -> Stack:
    """Returns histograms of equal length and binning as one array.

    Counts become float64, which holds every integer up to 2**53.
    """
    return Stack(
        torch.stack([histogram.counts for histogram in histograms]).double(),
        torch.stack([histogram.edges for histogram in histograms]),
        torch.tensor([histogram.magnitude for histogram in histograms], dtype=torch.float64),
        histograms[0].binning,
    )
