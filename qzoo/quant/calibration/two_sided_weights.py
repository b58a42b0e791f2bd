"""Ranges of weights with two ends, for quantizers with a zero point: one row of values each."""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.solvers import solve_ends
from qzoo.quant.calibration.solvers.percentile import exact_share, rank_of
from qzoo.quant.calibration.solvers.two_sided import tails
from qzoo.quant.fake_quant import Grid, fake_quantize, grid
from qzoo.quant.zero_point import asymmetric_range
from qzoo.schema.quantizer import QuantizerSpec

BOTH_ENDS = tuple(step / 50 for step in range(50, 4, -1))
"""The fractions of both ends that the mse search tries at first, largest first, so that the largest wins a tie."""
ONE_END = tuple(1 + step / 50 for step in range(20, -21, -1))
"""The fractions of each end alone that it tries then, end by end."""
ROUNDS = 2
"""How often each end has its turn."""


def weight_ends(rows: Tensor, spec: QuantizerSpec) -> tuple[Tensor, Tensor]:
    """Returns smallest and largest value of the range of each row, which holds 0; float32 `(n,)` each.

    Args:
        rows: float32 `(n, values)`, finite.
        spec: its calibrator is `max` (the outermost values), `percentile` (what `solvers.two_sided` does, of the values
            themselves), `mse` (least squared error over fractions of both ends, then of each end) or `entropy`.
    """
    method = spec.calibrator.method
    if method == "percentile":
        return _percentile(rows, spec)
    if method == "entropy":
        return _by_histograms(rows, spec)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    return _least_squares(rows, low, high, grid(bits=spec.bits, unsigned=True)) if method == "mse" else (low, high)


def _percentile(rows: Tensor, spec: QuantizerSpec) -> tuple[Tensor, Tensor]:
    ordered, count = rows.sort(1).values, rows.shape[1]
    below = (rows < 0).sum(1)
    clipped = torch.full_like(below, count - rank_of(exact_share(spec), count))
    low, high = tails(clipped, below, count - below)
    ends = ordered.gather(1, torch.stack([low, count - 1 - high], 1).clamp(0, count - 1))
    # A side that loses all its values ends at 0.
    return ends[:, 0].clamp(max=0), ends[:, 1].clamp(min=0)


def _least_squares(rows: Tensor, low: Tensor, high: Tensor, on: Grid) -> tuple[Tensor, Tensor]:
    best, least = (low, high), torch.full_like(low, torch.inf)

    def attempt(lows: Tensor, highs: Tensor) -> None:
        nonlocal best, least
        lows, highs = torch.maximum(lows, low), torch.minimum(highs, high)
        amax, _, zero_point = asymmetric_range(lows.unsqueeze(1), highs.unsqueeze(1), on)
        error = (fake_quantize(rows, amax, on, zero_point) - rows).square_().sum(1)
        better = error < least
        best = torch.where(better, lows, best[0]), torch.where(better, highs, best[1])
        least = torch.where(better, error, least)

    for fraction in BOTH_ENDS:
        attempt(low * fraction, high * fraction)
    for _ in range(ROUNDS):
        for of_low in (True, False):
            start = best
            for fraction in ONE_END:
                attempt(start[0] * (fraction if of_low else 1), start[1] * (1 if of_low else fraction))
    return best


def _by_histograms(rows: Tensor, spec: QuantizerSpec) -> tuple[Tensor, Tensor]:
    collectors = [HistogramCollector() for _ in rows]
    for collector, row in zip(collectors, rows, strict=True):
        collector.collect(row)
    low, high = solve_ends([one.histogram() for one in collectors], [spec] * len(rows))
    return low.to(rows.device), high.to(rows.device)
