"""Histograms of equal length as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import TWO_SIDED_REFERENCE, Binning, Histogram

FIRST_BIN = 128
"""The smallest range that is tried holds so many bins: a smaller one clips nearly everything. As in the reference."""


class Search(NamedTuple):
    """Which bins mse and entropy try as the last one of the range: `first`, `first + stride`, ..."""

    first: int = FIRST_BIN
    stride: int = 1


EVERY_BIN = Search()
ONE_SIDED = (
    "The histograms count magnitudes alone, from which no range with a zero point follows. Calibrate again on "
    "images, or say `symmetric: true`, or solve by `max`."
)


class Stack(NamedTuple):
    """n histograms of B bins; all float64.

    Attributes:
        counts: `(n, B)`.
        edges: `(n, B + 1)`.
        magnitude: `(n,)`, the largest absolute value seen.
        binning: the binning of all of them.
        amin: `(n,)`, the smallest value seen.
        amax: `(n,)`, the largest.
        negatives: `(n, B)`, the negative values among the counted ones; None where they were not counted.
    """

    counts: Tensor
    edges: Tensor
    magnitude: Tensor
    binning: Binning
    amin: Tensor
    amax: Tensor
    negatives: Tensor | None = None

    @property
    def signs(self) -> tuple[Tensor, Tensor]:
        """The counts of negative values, and those of all others, `(n, B)` each.

        Raises:
            CalibrationError: negative values were not counted.
        """
        if self.negatives is None:
            raise CalibrationError(TWO_SIDED_REFERENCE if self.binning == "reference" else ONE_SIDED)
        return self.negatives, self.counts - self.negatives

    @property
    def centres(self) -> Tensor:
        """The middle of each bin, `(n, B)`."""
        return (self.edges[:, 1:] + self.edges[:, :-1]) / 2


def stack(histograms: Sequence[Histogram]) -> Stack:
    """Returns histograms of equal length and binning as one array.

    Counts become float64, which holds every integer up to 2**53.
    """
    negatives = [histogram.negatives for histogram in histograms if histogram.negatives is not None]
    return Stack(
        torch.stack([histogram.counts for histogram in histograms]).double(),
        torch.stack([histogram.edges for histogram in histograms]),
        torch.tensor([histogram.magnitude for histogram in histograms], dtype=torch.float64),
        histograms[0].binning,
        torch.tensor([histogram.amin for histogram in histograms], dtype=torch.float64),
        torch.tensor([histogram.amax for histogram in histograms], dtype=torch.float64),
        torch.stack(negatives).double() if len(negatives) == len(histograms) else None,
    )
