"""The binning of NVIDIA's pytorch-quantization: the first tensor says how wide bins are, later ones how many there are.

What they hold depends on the order of the tensors, and a tensor a hundred times larger than the first makes a hundred
times as many. It is here for parity; `aligned` bins have neither fault.

Source: `HistogramCalibrator.collect` of pytorch-quantization 2.2.1, with `torch_hist=True` and with `torch_hist=False`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import Binning, Histogram

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
