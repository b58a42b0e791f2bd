"""The percentile solver: the range that a given share of all values does not exceed."""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.quant.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.schema.quantizer import QuantizerSpec


def percentile_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns float64 `(n,)`: the upper edge of the bin in which the quantile lies, and at most the maximum.

    So it is between the exact quantile (of NumPy's `inverted_cdf`) and one bin width above it, and percentile 100 is
    the maximum. With `reference` binning it is the *lower* edge, as in NVIDIA's toolkit.

    Source: pytorch-quantization 2.2.1, `_compute_amax_percentile`, for the reference.
    """
    share = (spec.calibrator.percentile or 100.0) / 100
    cumulative, total = histograms.counts.cumsum(1), histograms.counts.sum(1, keepdim=True)
    if histograms.binning == "reference":
        bins = torch.searchsorted((histograms.counts / total).cumsum(1), torch.full_like(total, share))
        return histograms.edges.gather(1, bins.clamp(max=cumulative.shape[1])).squeeze(1)
    rank = (total * share).ceil().clamp(min=1)
    bins = torch.searchsorted(cumulative, rank)
    return torch.minimum(histograms.edges.gather(1, bins + 1).squeeze(1), histograms.magnitude)
