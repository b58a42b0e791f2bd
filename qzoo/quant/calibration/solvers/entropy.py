"""The entropy solver: the range whose quantized distribution diverges least from the clipped one.

A candidate keeps the first i bins. Reference P: these bins, all outliers added to the last. Candidate Q: the bins
merged into equal groups, one for each positive level, and spread again evenly over the non-empty bins of the group.
KL(P || Q) is a sum over groups of what prefix sums hold, so all candidates are a few array operations.

Source: pytorch-quantization 2.2.1, `_compute_amax_entropy`, after S. Migacz 2017, "8-bit Inference with TensorRT".
"""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.schema.quantizer import QuantizerSpec

WORK = 1 << 22
TIE = 1e-9
"""Divergences this close differ by rounding alone."""


def entropy_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns float64 `(n,)`: the upper edge of the last bin that the best candidate keeps, and at most the maximum.

    The best of equal candidates is the last one. As in the reference bin 0 counts as many values as bin 1, so that
    the zeros after a ReLU do not decide. FP8 is treated as an integer grid of 8 bits.

    With `reference` binning candidates that hold no data win, as they do in NVIDIA's toolkit (NaN is the least of all).
    With `aligned` binning candidates that clip more than half of the values beyond bin 0 are left out: one value with
    all others clipped onto it is a perfect match to the divergence, and useless.
    """
    groups = 1 << (spec.bits - 1 + (spec.unsigned is True))
    faulty = histograms.binning == "reference"
    bins = histograms.counts.shape[1]
    if groups > bins:
        return histograms.edges[:, -1] if faulty else histograms.magnitude
    amax = torch.empty_like(histograms.magnitude)
    for n, counts in enumerate(histograms.counts):
        keep = torch.arange(min(search.first, bins), bins + 1, search.stride)
        divergence = _divergences(counts, groups, keep)
        if faulty:
            divergence = divergence.nan_to_num(nan=-torch.inf, posinf=torch.inf)
        else:
            divergence = divergence.masked_fill(divergence.isnan() | _clips_most(counts, keep), torch.inf)
        best = divergence <= divergence.min() + (0.0 if faulty else TIE)
        amax[n] = histograms.edges[n, int(keep[best][-1])]
    return amax if faulty else torch.minimum(amax, histograms.magnitude)


def _clips_most(counts: Tensor, keep: Tensor) -> Tensor:
    """Returns which of the candidates that keep so many bins clip more than half of the values beyond bin 0."""
    beyond = torch.cat([counts.new_zeros(1), counts[1:].cumsum(0)])
    return beyond[keep - 1] * 2 < beyond[-1]


def _divergences(counts: Tensor, groups: int, keep: Tensor) -> Tensor:
    """Returns KL(P || Q) of the candidates that keep so many bins, float64."""
    counts = counts.clone()
    counts[0] = counts[1]
    zero = counts.new_zeros(1)
    number = torch.cat([zero, counts.cumsum(0)])
    filled = torch.cat([zero, (counts > 0).double().cumsum(0)])
    # x log x with 0 log 0 = 0
    self_entropy = torch.cat([zero, torch.special.xlogy(counts, counts).cumsum(0)])
    parts = [
        _divergence_of(part, counts, number, filled, self_entropy, groups)
        for part in keep.split(max(1, WORK // groups))
    ]
    return torch.cat(parts)


def _divergence_of(
    keep: Tensor, counts: Tensor, number: Tensor, filled: Tensor, self_entropy: Tensor, groups: int
) -> Tensor:
    total, kept = number[-1], number[keep]
    outliers, final = total - kept, counts[keep - 1]
    # Group g holds the bins from ceil(g * keep / groups) on.
    bounds = (torch.arange(groups + 1) * keep.unsqueeze(1) + groups - 1).div(groups, rounding_mode="floor")
    mass = number[bounds].diff(dim=1)
    spread = mass / filled[bounds].diff(dim=1).clamp(min=1)
    density = torch.log(spread) - torch.log(kept).unsqueeze(1)
    p_log_p = self_entropy[keep - 1] + torch.special.xlogy(final + outliers, final + outliers)
    p_log_q = torch.where(mass > 0, mass * density, 0.0).sum(1)
    last_density = density[torch.arange(len(keep)), _last_group(keep, groups)]
    p_log_q = p_log_q + torch.where(outliers > 0, outliers * last_density, 0.0)
    divergence = (p_log_p - p_log_q) / total - torch.log(total)
    divergence = torch.where((final == 0) & (outliers > 0), torch.inf, divergence)
    return torch.where(kept == 0, torch.nan, divergence)


def _last_group(keep: Tensor, groups: int) -> Tensor:
    return ((keep - 1) * groups).div(keep, rounding_mode="floor")
