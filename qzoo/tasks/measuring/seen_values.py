"""Histograms as people look at them: a few dozen bins, of both signs; and the share of values beyond a range."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from qzoo.quant.calibration.histogram import Histogram
from qzoo.results.details import SeenValues

MOST_BINS = 64


def of_histogram(histogram: Histogram) -> SeenValues:
    """Returns what a collector counted, in whole numbers of its bins, so that no bin holds more than its neighbours.

    Example:
        >>> counted = Histogram(torch.tensor([5, 1]), torch.tensor([0.0, 1.0, 2.0]), -0.5, 1.5, "aligned",
        ...                     torch.tensor([2, 0]))
        >>> of_histogram(counted)
        SeenValues(edges=(-1.0, 0.0, 1.0, 2.0), counts=(2, 3, 1), low=-0.5, high=1.5)
    """
    negatives = torch.zeros_like(histogram.counts) if histogram.negatives is None else histogram.negatives
    width = float(histogram.edges[1])
    below, above = (_bins(counts) for counts in (negatives, histogram.counts - negatives))
    together = max(1, math.ceil((below + above) / MOST_BINS))
    left, right = math.ceil(below / together), max(1, math.ceil(above / together))
    counts = [
        *reversed(_summed(negatives, together, left)),
        *_summed(histogram.counts - negatives, together, right),
    ]
    edges = [place * together * width for place in range(-left, right + 1)]
    return SeenValues(tuple(edges), tuple(counts), histogram.amin, histogram.amax)


def _bins(counts: Tensor) -> int:
    """Returns how many bins there are up to the last that holds something."""
    filled = counts.nonzero()
    return int(filled[-1]) + 1 if len(filled) else 0


def _summed(counts: Tensor, together: int, bins: int) -> list[int]:
    padded = torch.nn.functional.pad(counts, (0, max(0, together * bins - len(counts))))[: together * bins]
    return [int(one) for one in padded.view(bins, together).sum(1)] if bins else []


def of_tensor(values: Tensor) -> SeenValues:
    """Returns the histogram of all values of a tensor.

    Example:
        >>> sum(of_tensor(torch.tensor([-1.0, 0.0, 0.5])).counts)
        3
    """
    plain = values.detach().float().cpu().flatten()
    low, high = (float(end) for end in torch.aminmax(plain))
    counts, edges = np.histogram(plain.numpy(), bins=MOST_BINS, range=(low, high) if high > low else (low - 1, low + 1))
    return SeenValues(tuple(map(float, edges)), tuple(map(int, counts)), low, high)


def share_beyond(histogram: Histogram, low: float, high: float) -> float:
    """Returns the share of what was counted beyond two ends, 0 to 1; a bin counts if it begins there.

    Example:
        >>> counted = Histogram(torch.tensor([3, 1]), torch.tensor([0.0, 1.0, 2.0]), 0.0, 1.5)
        >>> share_beyond(counted, -1.0, 1.0)
        0.25
    """
    negatives = torch.zeros_like(histogram.counts) if histogram.negatives is None else histogram.negatives
    starts = histogram.edges[:-1]
    beyond = (histogram.counts - negatives)[starts >= high].sum() + negatives[starts >= -low].sum()
    return float(beyond) / max(histogram.total, 1)
