"""Collectors: what a calibrating quantizer remembers of the tensors it sees. Memory does not grow with their number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qzoo.errors import CalibrationError, UnknownNameError, did_you_mean
from qzoo.quant.calibration.bins import ReferenceBins, count_aligned
from qzoo.quant.calibration.histogram import (
    ALIGNED_BINS,
    TWO_SIDED_REFERENCE,
    Binning,
    Histogram,
    aligned_edges,
    exponent_of,
)

SMALLEST_EXPONENT = -126
"""The scale `2**126` is the largest that float32 holds; narrower bins are not needed."""


class MaxCollector:
    """The smallest and the largest value.

    Attributes:
        amin: float32 `()`, on the device of the tensors; +inf before the first.
        amax: float32 `()`, -inf before the first.

    Example:
        >>> collector = MaxCollector()
        >>> collector.collect(torch.tensor([-3.0, 2.0]))
        >>> collector.amin.item(), collector.amax.item()
        (-3.0, 2.0)
    """

    def __init__(self) -> None:
        self.amin, self.amax = torch.tensor(torch.inf, device="cpu"), torch.tensor(-torch.inf, device="cpu")

    def collect(self, x: Tensor) -> None:
        """Takes note of a tensor of any shape and float dtype."""
        if x.numel():
            low, high = torch.aminmax(x)
            # minimum and maximum keep a NaN once it came
            self.amin = torch.minimum(self.amin.to(low.device), low.float())
            self.amax = torch.maximum(self.amax.to(high.device), high.float())

    def merge(self, other: MaxCollector) -> None:
        """Adds what another collector saw."""
        self.amin = torch.minimum(self.amin, other.amin.to(self.amin.device))
        self.amax = torch.maximum(self.amax, other.amax.to(self.amax.device))

    @property
    def empty(self) -> bool:
        """Whether nothing was seen."""
        return bool(self.amin > self.amax)

    @property
    def nonfinite(self) -> bool:
        """Whether a NaN or an infinity was seen."""
        return not self.empty and not (math.isfinite(self.amin) and math.isfinite(self.amax))


class HistogramCollector(MaxCollector):
    """A histogram of magnitudes, beside the smallest and the largest value; two-sided, also one of negative values.

    `aligned`: 4,096 half-open bins whose width is the smallest power of two that holds the largest magnitude. When
    the range grows, the width doubles and neighbouring bins are merged, so the result is the same, bit for bit,
    whatever the size and order of the batches.
    `reference`: the edges of NVIDIA pytorch-quantization: 2,048 bins up to the first batch's maximum, then more.
    """

    def __init__(self, binning: Binning | str = "aligned", *, two_sided: bool = False) -> None:
        super().__init__()
        if binning not in ("aligned", "reference"):
            raise UnknownNameError(f"Unknown binning '{binning}'. {did_you_mean(binning, ['aligned', 'reference'])}")
        if two_sided and binning == "reference":
            raise CalibrationError(TWO_SIDED_REFERENCE)
        self._bins: AlignedBins | ReferenceBins = AlignedBins(two_sided) if binning == "aligned" else ReferenceBins()

    @classmethod
    def recorded(cls, histogram: Histogram) -> HistogramCollector:
        """Returns a collector that collected a histogram, as if it had just seen the tensors."""
        collector = cls(histogram.binning, two_sided=histogram.negatives is not None)
        collector.amin, collector.amax = torch.tensor(histogram.amin), torch.tensor(histogram.amax)
        collector._bins.restore(histogram)
        return collector

    def collect(self, x: Tensor) -> None:
        """Takes note of a tensor of any shape and float dtype.

        Raises:
            CalibrationError: with `reference` binning, the range outgrew a million bins.
        """
        if not x.numel():
            return
        low, high = (value.float() for value in torch.aminmax(x))
        self.amin = torch.minimum(self.amin.to(low.device), low)
        self.amax = torch.maximum(self.amax.to(high.device), high)
        smallest, largest = float(low), float(high)
        if math.isfinite(smallest) and math.isfinite(largest):
            self._bins.add(x, max(abs(smallest), abs(largest)), signed=smallest < 0)

    def merge(self, other: MaxCollector) -> None:
        """Adds what another collector of `aligned` binning saw.

        Raises:
            CalibrationError: either of them is of another kind; nothing is added.
        """
        mine, theirs = self.mergeable(), other.mergeable() if isinstance(other, HistogramCollector) else None
        if theirs is None:
            raise CalibrationError("A histogram can't be merged with maxima. Collect histograms in both places.")
        if (mine.negatives is None) is not (theirs.negatives is None):
            raise CalibrationError("A two-sided histogram can't be merged with a one-sided one. Collect both alike.")
        super().merge(other)
        mine.merge(theirs)

    def mergeable(self) -> AlignedBins:
        """Returns the bins themselves, to merge others into them.

        Raises:
            CalibrationError: with `reference` binning, where they depend on the order of the batches.
        """
        if isinstance(self._bins, AlignedBins):
            return self._bins
        raise CalibrationError(
            "Only histograms of aligned binning can be merged. Collect with `binning: aligned`, or in one process."
        )

    def histogram(self) -> Histogram:
        """Returns what was counted so far."""
        counts, edges, binning = self._bins.result()
        negatives = self._bins.negatives if isinstance(self._bins, AlignedBins) else None
        kept = None if negatives is None else negatives.clone()
        return Histogram(counts.clone(), edges, float(self.amin), float(self.amax), binning, kept)


class AlignedBins:
    """Half-open bins from 0, all of them `2**exponent` wide.

    Attributes:
        counts: int64 `(4096,)`, on the CPU.
        negatives: int64 `(4096,)`, the negative values among them; None where they are not told apart.
        exponent: -126 to 116; as small as what was added allows.
    """

    def __init__(self, two_sided: bool = False) -> None:
        self.counts = torch.zeros(ALIGNED_BINS, dtype=torch.int64, device="cpu")
        self.negatives = torch.zeros_like(self.counts) if two_sided else None
        self.exponent = SMALLEST_EXPONENT

    def add(self, x: Tensor, magnitude: float, signed: bool) -> None:
        """Counts finite values of at most this magnitude."""
        self.grow(_exponent_for(magnitude))
        if signed and self.negatives is not None:
            others, negatives = count_aligned(x, self.exponent, "apart").view(2, -1)
            self.negatives += negatives
            self.counts += others + negatives
        else:
            self.counts += count_aligned(x, self.exponent, "both" if signed else "none")

    def merge(self, other: AlignedBins) -> None:
        """Adds the counts of others, of the same kind, in the wider bins of the two."""
        self.grow(other.exponent)
        self.counts += _coarser(other.counts, self.exponent - other.exponent)
        if self.negatives is not None and other.negatives is not None:
            self.negatives += _coarser(other.negatives, self.exponent - other.exponent)

    def grow(self, exponent: int) -> None:
        """Makes the bins at least `2**exponent` wide, by adding up neighbours."""
        if exponent > self.exponent:
            self.counts = _coarser(self.counts, exponent - self.exponent)
            if self.negatives is not None:
                self.negatives = _coarser(self.negatives, exponent - self.exponent)
            self.exponent = exponent

    def restore(self, histogram: Histogram) -> None:
        """Takes over what a histogram of aligned binning counted."""
        self.counts, self.exponent = histogram.counts.clone(), exponent_of(histogram)
        self.negatives = None if histogram.negatives is None else histogram.negatives.clone()

    def result(self) -> tuple[Tensor, Tensor, Binning]:
        """Returns counts, edges and the name of the binning."""
        return self.counts, aligned_edges(self.exponent), "aligned"


def _exponent_for(magnitude: float) -> int:
    """Returns the smallest k with `magnitude < 4096 * 2**k`."""
    if magnitude == 0:
        return SMALLEST_EXPONENT
    return max(math.frexp(magnitude)[1] - 12, SMALLEST_EXPONENT)


def _coarser(counts: Tensor, doublings: int) -> Tensor:
    """Returns the counts of bins `2**doublings` times as wide."""
    merged = torch.zeros_like(counts)
    wide = min(doublings, 12)
    sums = counts.view(-1, 1 << wide).sum(1)
    merged[: len(sums)] = sums
    return merged
