"""Solvers of ranges with two ends, for quantizers with a zero point: how far a range reaches below 0, and above it.

They see histograms of values of both signs; where all have one sign, the range of magnitudes is one end and 0 the
other. An end is never beyond the values that were seen, and the range always holds 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qzoo.quant.calibration.solvers.entropy import entropy_amax
from qzoo.quant.calibration.solvers.percentile import exact_share, rank_of
from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.quant.calibration.solvers.two_sided_mse import mse_reaches
from qzoo.schema.quantizer import QuantizerSpec

Reaches = tuple[Tensor, Tensor]
"""How far ranges reach below 0 and above it, both at least 0, float64 `(n,)`."""
TwoSidedSolver = Callable[[Stack, QuantizerSpec, Search], Reaches]


def max_reaches(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Reaches:
    """Returns the ends of what was seen: min-max."""
    return -histograms.amin, histograms.amax


def tails(clipped: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how many values each side may lose, of so many in all; what one side has not, the other may lose.

    Args:
        clipped: int64 `(n,)`: how many values lie outside the range.
        below: int64 `(n,)`: how many values are negative.
        above: int64 `(n,)`: how many are not.

    Example:
        >>> tails(torch.tensor([10, 10]), torch.tensor([50, 2]), torch.tensor([50, 98]))
        (tensor([5, 2]), tensor([5, 8]))
    """
    low = torch.minimum(clipped.div(2, rounding_mode="floor"), below)
    high = torch.minimum(clipped - low, above)
    return clipped - high, high


def percentile_reaches(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Reaches:
    """Returns the ends beyond which the share that is left out lies, half of it on each side.

    Of N values, `N - ceil(p * N)` may lie outside, as with one end; see `tails` for what each side loses. An end is the
    outer edge of the bin in which the outermost value that is kept lies, and at most the outermost value seen.
    """
    counts = [part.long() for part in histograms.signs]
    below, above = (part.sum(1) for part in counts)
    share = exact_share(spec)
    clipped = torch.tensor([int(count) - rank_of(share, int(count)) for count in below + above])
    lost = tails(clipped, below, above)
    reaches = [
        _quantile(part, total - out, histograms.edges)
        for part, total, out in zip(counts, (below, above), lost, strict=True)
    ]
    return torch.minimum(reaches[0], -histograms.amin), torch.minimum(reaches[1], histograms.amax)


def entropy_reaches(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Reaches:
    """Returns both ends at the magnitude that a signed quantizer's entropy picks, or at the outermost value before it.

    The divergence compares magnitudes; there is none for two ends in the sources.
    """
    magnitude = entropy_amax(histograms, spec, search)
    return torch.minimum(magnitude, -histograms.amin), torch.minimum(magnitude, histograms.amax)


def _quantile(counts: Tensor, kept: Tensor, edges: Tensor) -> Tensor:
    """Returns the outer edge of the bin of the last value that is kept; 0 where none is."""
    bins = torch.searchsorted(counts.cumsum(1), kept.clamp(min=1).unsqueeze(1))
    last = edges.gather(1, bins.clamp(max=counts.shape[1] - 1) + 1).squeeze(1)
    return torch.where(kept > 0, last, 0.0)


TWO_SIDED_SOLVERS: dict[str, TwoSidedSolver] = {
    "max": max_reaches,
    "percentile": percentile_reaches,
    "mse": mse_reaches,
    "entropy": entropy_reaches,
}
