"""The mse solver: the range with the least squared quantization error over the histogram.

The error of a candidate range is a sum over the levels of its grid, and what each level needs (how many values are
rounded to it, and their sum) is a difference of two prefix sums. So a candidate costs as many steps as the grid has
levels, not as many as the histogram has bins, and all candidates of all histograms are a few array operations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.quant.fake_quant import FP8_DTYPES, SMALLEST_AMAX, grid
from qzoo.schema.quantizer import QuantizerSpec

WORK = 1 << 22
"""Candidates times levels at a time, to bound the memory."""


def mse_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns float64 `(n,)`: the candidate with the least `sum(count * (fakequant(centre) - centre)**2)`.

    Candidates are the upper edges of bins, and the maximum; with `reference` binning the centres of bins. The
    search says which.

    Source: pytorch-quantization 2.2.1, `_compute_amax_mse`.
    """
    levels = grid_levels(spec)
    bins = histograms.counts.shape[1]
    if histograms.binning == "aligned" and len(levels) > bins // 2:
        # Finer than the histogram: it can't tell any loss inside the range, so clipping nothing is best.
        return histograms.magnitude
    amax = torch.empty_like(histograms.magnitude)
    for n in range(len(amax)):
        candidates = _candidates(histograms, n, search)
        errors = _squared_errors(histograms.counts[n], histograms.centres[n], candidates, levels)
        if histograms.binning == "reference":
            # A range of 2^-24 or less gives zeros, so each costs everything; of equals the smallest wins.
            everything = (histograms.counts[n] * histograms.centres[n].square()).sum()
            errors = torch.where(candidates > SMALLEST_AMAX, errors, everything)
        amax[n] = candidates[errors.argmin()]
    return amax


def grid_levels(spec: QuantizerSpec) -> Tensor:
    """Returns the non-negative values of the grid that spans 1, ascending, float64.

    Example:
        >>> grid_levels(QuantizerSpec(bits=3))
        tensor([0.0000, 0.3333, 0.6667, 1.0000], dtype=torch.float64)
    """
    if spec.format == "int":
        bound = grid(bits=spec.bits, unsigned=spec.unsigned is True).bound
        return torch.arange(int(bound) + 1, dtype=torch.float64) / bound
    dtype = FP8_DTYPES[spec.format]
    values = torch.arange(128, dtype=torch.uint8).view(dtype).double()
    return values[values.isfinite()] / torch.finfo(dtype).max


def _candidates(histograms: Stack, n: int, search: Search) -> Tensor:
    if histograms.binning == "reference":
        return histograms.centres[n, search.first :: search.stride]
    magnitude = histograms.magnitude[n]
    edges = histograms.edges[n, search.first : -1 : search.stride]
    return torch.cat([edges[edges < magnitude], magnitude.unsqueeze(0)])


def _squared_errors(counts: Tensor, centres: Tensor, candidates: Tensor, levels: Tensor) -> Tensor:
    zero = counts.new_zeros(1)
    number = torch.cat([zero, counts.cumsum(0)])
    total = torch.cat([zero, (counts * centres).cumsum(0)])
    square = (counts * centres.square()).sum()
    middles = (levels[1:] + levels[:-1]) / 2
    errors = []
    for part in candidates.split(max(1, WORK // len(levels))):
        # Values from one middle to the next are rounded to the level between them.
        at = torch.searchsorted(centres, part.unsqueeze(1) * middles)
        first = torch.cat([torch.zeros_like(at[:, :1]), at], 1)
        last = torch.cat([at, torch.full_like(at[:, :1], len(counts))], 1)
        value = part.unsqueeze(1) * levels
        inner = value * (number[last] - number[first]) - 2 * (total[last] - total[first])
        errors.append(square + (value * inner).sum(1))
    return torch.cat(errors)
