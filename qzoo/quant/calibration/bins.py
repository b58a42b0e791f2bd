"""Bins of histograms: counting into them, and those of the reference implementation."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import ALIGNED_BINS, Binning, Histogram

PIECE = 1 << 19
"""Values at a time: their scaled copy and their bin numbers stay in the cache."""
LANES = 4
"""Interleaved histograms; int16 holds the bin numbers of up to seven, of up to three where signs are told apart."""
Signs = Literal["none", "both", "apart"]
"""Whether there are negative values, and whether they are counted in bins of their own."""


def count_aligned(x: Tensor, exponent: int, signs: Signs) -> Tensor:
    """Returns how many values of `x` lie in each of 4,096 bins of width `2**exponent`, int64, on the CPU.

    Args:
        x: any shape; finite, magnitudes below `4096 * 2**exponent`.
        exponent: -126 to 127.
        signs: `none` if no negative value occurs, which saves a pass; `both` if magnitudes are counted; `apart` if
            negative values are counted after all others, in another 4,096 bins.

    Example:
        >>> count_aligned(torch.tensor([0.0, -1.5, 1.0]), exponent=0, signs="both")[:3]
        tensor([1, 2, 0])
        >>> count_aligned(torch.tensor([0.0, -1.5, 1.0]), exponent=0, signs="apart").view(2, -1)[:, :3]
        tensor([[1, 1, 0],
                [0, 1, 0]])
    """
    values, factor = _dense(x), 2.0**-exponent
    lanes, bins = (LANES // 2, 2 * ALIGNED_BINS) if signs == "apart" else (LANES, ALIGNED_BINS)
    if x.device.type != "cpu":
        scaled = values.float() * factor
        numbers = (scaled if signs == "none" else scaled.abs()).to(torch.int32)
        numbers = numbers + (values < 0) * ALIGNED_BINS if signs == "apart" else numbers
        return torch.bincount(numbers, minlength=bins).cpu()
    counts = torch.zeros(lanes * bins, dtype=torch.int64)
    for piece in values.split(PIECE):
        counts += torch.bincount(_bin_numbers(piece, factor, signs), minlength=len(counts))
    return counts.view(lanes, bins).sum(0)


def _dense(x: Tensor) -> Tensor:
    """Returns the values flat, in the order they lie in memory where that saves a copy."""
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)


def _bin_numbers(piece: Tensor, factor: float, signs: Signs) -> Tensor:
    """Returns the bin of each value, in the histogram of its lane, int16; a buffer that the next call overwrites."""
    scaled, bins, lanes, negative, wide_lanes = (buffer[: piece.numel()] for buffer in _SCRATCH.buffers())
    if piece.dtype == torch.float32:
        torch.mul(piece, factor, out=scaled)
    else:
        scaled.copy_(piece).mul_(factor)
    if signs == "apart":
        torch.lt(piece, 0, out=negative)  # 1 or 0
        return bins.copy_(scaled.abs_()).add_(wide_lanes).add_(negative, alpha=ALIGNED_BINS)
    return bins.copy_(scaled if signs == "none" else scaled.abs_()).add_(lanes)


class _Scratch(threading.local):
    """Buffers that each thread keeps: fresh memory costs more than the arithmetic on it."""

    def __init__(self) -> None:
        self.made: tuple[Tensor, ...] | None = None

    def buffers(self) -> tuple[Tensor, ...]:
        """Returns scaled values, bin numbers, what each lane adds to one, signs, and lanes where signs are apart."""
        if self.made is None:
            with torch.inference_mode(False):
                lanes = torch.arange(PIECE).remainder_(LANES).mul_(ALIGNED_BINS).to(torch.int16)
                wide = torch.arange(PIECE).remainder_(LANES // 2).mul_(2 * ALIGNED_BINS).to(torch.int16)
                bins, negative = (torch.empty(PIECE, dtype=torch.int16) for _ in range(2))
                self.made = torch.empty(PIECE), bins, lanes, negative, wide
        return self.made


_SCRATCH = _Scratch()


REFERENCE_BINS = 2048
MOST_REFERENCE_BINS = 1_000_000


class ReferenceBins:
    """Bins of equal width from 0 to the largest value of the first tensor, and more of them as others are larger.

    Attributes:
        counts: float32 `(bins,)`, on the CPU; empty before the first tensor.
        edges: float32, `(bins + 1,)`, or one more.

    Example:
        >>> bins = ReferenceBins(4)
        >>> bins.add(torch.tensor([1.0, 4.0]), 4.0, signed=False)
        >>> bins.add(torch.tensor([6.0]), 6.0, signed=False)
        >>> bins.counts
        tensor([0., 1., 0., 1., 0., 1.])
    """

    def __init__(self, bins: int = REFERENCE_BINS) -> None:
        self.bins = bins
        self.counts = torch.zeros(0)
        self.edges = torch.zeros(1)

    @property
    def empty(self) -> bool:
        """Whether nothing was counted."""
        return len(self.counts) == 0

    def add(self, x: Tensor, magnitude: float, signed: bool) -> None:
        """Counts magnitudes.

        Args:
            x: any shape; not changed.
            magnitude: the largest absolute value of it.
            signed: it has negative values.

        Raises:
            CalibrationError: that would take more than a million bins.
        """
        x = x.float().abs() if signed else x.float()
        largest = torch.tensor(magnitude, dtype=torch.float32)
        if self.empty:
            bins, self.edges = self.bins, torch.linspace(0, magnitude, self.bins + 1)
        else:
            bins = len(self.counts)
            if largest > self.edges[-1]:
                width = self.edges[1] - self.edges[0]
                bins = _checked(float((largest / width).ceil()), magnitude)
                self.edges = torch.arange(0, float(largest + width), float(width))
        counts = torch.histc(x, bins=bins, min=0, max=float(self.edges[-1])).cpu()
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def restore(self, histogram: Histogram) -> None:
        """Takes over what a histogram of reference binning counted."""
        self.counts, self.edges = histogram.counts.float(), histogram.edges.float()

    def result(self) -> tuple[Tensor, Tensor, Binning]:
        """Returns counts, int64, edges, float64, one more, and the name of the binning."""
        return self.counts.to(torch.int64), self.edges[: len(self.counts) + 1].double(), "reference"


class NumpyBins(ReferenceBins):
    """The same counted by NumPy: bins start at the smallest magnitude of the first tensor, not at 0.

    Smaller magnitudes of later tensors are not counted.
    """

    def add(self, x: Tensor, magnitude: float, signed: bool) -> None:
        """Counts magnitudes; see `ReferenceBins.add`."""
        values = x.detach().float().abs().cpu().numpy().ravel()
        if self.empty:
            counts, edges = np.histogram(values, bins=self.bins)
        else:
            edges = self._grown(self.edges.numpy(), values.max(), magnitude)
            counts, edges = np.histogram(values, bins=edges)
            counts[: len(self.counts)] += self.counts.numpy().astype(counts.dtype)
        self.counts, self.edges = torch.from_numpy(counts.astype(np.float32)), torch.from_numpy(edges)

    @staticmethod
    def _grown(edges: np.ndarray, largest: np.floating, magnitude: float) -> np.ndarray:
        if largest <= edges[-1]:
            return edges
        width = edges[1] - edges[0]
        _checked(float(largest / width), magnitude)
        return np.hstack([edges, np.arange(edges[-1] + width, largest + width, width)])


def _checked(bins: float, magnitude: float) -> int:
    if bins > MOST_REFERENCE_BINS:
        raise CalibrationError(
            f"A batch reaches {magnitude:.4g}, {bins / REFERENCE_BINS:,.0f} times the first one's maximum. With "
            f"`binning: reference` that takes {bins:,.0f} bins, more than {MOST_REFERENCE_BINS:,}, because its "
            "bins keep the width of the first batch. Use `binning: aligned`, or put a typical batch first."
        )
    return int(bins)
