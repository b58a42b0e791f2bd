"""The percentile solver: the range that a given share of all values does not exceed."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.schema.quantizer import QuantizerSpec


def exact_share(spec: QuantizerSpec) -> Fraction:
    """Returns the share that a percentile is, as it is written: 99.9 is 999/1000, and not the binary number beside it.

    Example:
        >>> exact_share(QuantizerSpec(calibrator={"percentile": 99.9}))
        Fraction(999, 1000)
    """
    return Fraction(str(_percentile(spec))) / 100


def rank_of(share: Fraction, count: int) -> int:
    """Returns which of so many values, from 1 on in ascending order, no more than the rest exceeds.

    Example:
        >>> rank_of(Fraction("0.999"), 1000)
        999
    """
    return max(1, math.ceil(share * count))


def percentile_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns float64 `(n,)`: the upper edge of the bin in which the quantile lies, and at most the maximum.

    So it is between the exact quantile (of NumPy's `inverted_cdf`) and one bin width above it, and percentile 100 is
    the maximum. With `reference` binning it is the *lower* edge, as in NVIDIA's toolkit.

    Source: pytorch-quantization 2.2.1, `_compute_amax_percentile`, for the reference.
    """
    cumulative, total = histograms.counts.cumsum(1), histograms.counts.sum(1, keepdim=True)
    if histograms.binning == "reference":
        bins = torch.searchsorted(
            (histograms.counts / total).cumsum(1), torch.full_like(total, _percentile(spec) / 100)
        )
        return histograms.edges.gather(1, bins.clamp(max=cumulative.shape[1])).squeeze(1)
    share = exact_share(spec)
    rank = torch.tensor([[rank_of(share, int(count))] for count in total], dtype=total.dtype)
    bins = torch.searchsorted(cumulative, rank)
    return torch.minimum(histograms.edges.gather(1, bins + 1).squeeze(1), histograms.magnitude)


def _percentile(spec: QuantizerSpec) -> float:
    return 100.0 if spec.calibrator.percentile is None else spec.calibrator.percentile
