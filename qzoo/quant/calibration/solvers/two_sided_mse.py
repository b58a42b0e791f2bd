"""The mse solver for ranges with two ends: those with the least squared quantization error over the histogram.

With two ends there are too many candidates to try each. A coarse grid of pairs, each end a fraction of what was seen on
its side, is refined around its best pair, in ever smaller steps. What a pair costs follows from prefix sums, as in
`mse`, here over bins of both signs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack
from qzoo.schema.quantizer import QuantizerSpec

COARSE = 0.85
"""The ratio of neighbouring candidates of the coarse grid."""
COARSE_CANDIDATES = 20
"""Of one end, down to a 22nd of what was seen; and one at 0."""
ROUNDS = 6
"""Each halves the ratio's logarithm: the last step is 0.25 % of an end."""
WORK = 1 << 20
"""Candidates times levels at a time, to bound the memory."""


def mse_reaches(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> tuple[Tensor, Tensor]:
    """Returns how far the ranges reach below and above 0, float64 `(n,)` each."""
    low, high = -histograms.amin, histograms.amax
    levels = 2**spec.bits
    if levels > histograms.counts.shape[1]:
        # Finer than the histogram: it can't tell any loss inside the range, so clipping nothing is best.
        return low, high
    negatives, others = histograms.signs
    found = [
        _best(_Prefix(negatives[n], others[n], histograms.centres[n]), float(low[n]), float(high[n]), levels)
        for n in range(len(low))
    ]
    return torch.stack([one[0] for one in found]), torch.stack([one[1] for one in found])


class _Prefix:
    """A histogram of both signs, and what its prefix sums tell.

    Attributes:
        centres: float64 `(2 * B,)`, ascending.
        number: float64 `(2 * B + 1,)`: how many values lie in the bins before.
        total: their sum.
        square: the sum of the squares of all values.
    """

    def __init__(self, negatives: Tensor, others: Tensor, centres: Tensor) -> None:
        counts = torch.cat([negatives.flip(0), others])
        self.centres = torch.cat([-centres.flip(0), centres])
        zero = counts.new_zeros(1)
        self.number = torch.cat([zero, counts.cumsum(0)])
        self.total = torch.cat([zero, (counts * self.centres).cumsum(0)])
        self.square = (counts * self.centres.square()).sum()


def _best(prefix: _Prefix, low: float, high: float, levels: int) -> tuple[Tensor, Tensor]:
    fractions = torch.cat([COARSE ** torch.arange(COARSE_CANDIDATES, dtype=torch.float64), torch.zeros(1)])
    best = _best_pair(prefix, low * fractions, high * fractions, levels)
    ratio = COARSE
    for _ in range(ROUNDS):
        ratio = ratio**0.5
        near = ratio ** torch.arange(-2, 3, dtype=torch.float64)
        best = _best_pair(prefix, (best[0] * near).clamp(max=low), (best[1] * near).clamp(max=high), levels)
    return best


def _best_pair(prefix: _Prefix, lows: Tensor, highs: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    low, high = (ends.flatten() for ends in torch.meshgrid(lows, highs, indexing="ij"))
    parts = zip(low.split(max(1, WORK // levels)), high.split(max(1, WORK // levels)), strict=True)
    best = int(torch.cat([squared_errors(prefix, lows, highs, levels) for lows, highs in parts]).argmin())
    return low[best], high[best]


def squared_errors(prefix: _Prefix, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Returns the sum of `count * (fakequant(centre) - centre)**2` of each range, float64 `(c,)`.

    Args:
        prefix: of a histogram.
        low: float64 `(c,)`, how far each range reaches below 0.
        high: how far above.
        levels: of the grid.
    """
    step = ((low + high) / (levels - 1)).unsqueeze(1)
    zero = torch.where(step > 0, low.unsqueeze(1) / step, 0.0).round()
    value = (torch.arange(levels, dtype=torch.float64) - zero) * step
    # Values from one middle to the next are rounded to the level between them.
    at = torch.searchsorted(prefix.centres, value[:, :-1] + step / 2)
    first = torch.cat([torch.zeros_like(at[:, :1]), at], 1)
    last = torch.cat([at, torch.full_like(at[:, :1], len(prefix.centres))], 1)
    count, total = prefix.number[last] - prefix.number[first], prefix.total[last] - prefix.total[first]
    return prefix.square + (value * (value * count - 2 * total)).sum(1)
