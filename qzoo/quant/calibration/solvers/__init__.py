"""Solvers: from histograms to ranges. Pure functions over the histograms of all quantizers at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers.entropy import entropy_amax
from qzoo.quant.calibration.solvers.mse import mse_amax
from qzoo.quant.calibration.solvers.percentile import percentile_amax
from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack, stack
from qzoo.quant.calibration.solvers.two_sided import TWO_SIDED_SOLVERS
from qzoo.schema.quantizer import QuantizerSpec

Solver = Callable[[Stack, QuantizerSpec, Search], Tensor]


def max_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns the largest magnitudes, float64 `(n,)`."""
    return histograms.magnitude


SOLVERS: dict[str, Solver] = {
    "max": max_amax,
    "percentile": percentile_amax,
    "mse": mse_amax,
    "entropy": entropy_amax,
}


def solve_ends(
    histograms: Sequence[Histogram], specs: Sequence[QuantizerSpec], search: Search = EVERY_BIN
) -> tuple[Tensor, Tensor]:
    """Returns the smallest and the largest value of the range with a zero point of each quantizer, float32 `(n,)`.

    Where all values have one sign, the range goes from 0 to what an unsigned quantizer's is, or that below 0.

    Args:
        histograms: what each quantizer collected.
        specs: what each quantizer is; that it has a zero point is taken for granted.
        search: which ranges entropy tries, and mse of one sign.

    Raises:
        CalibrationError: a histogram counted nothing, or counted magnitudes alone where the solver needs signs.

    Example:
        >>> from qzoo.quant.calibration.collectors import HistogramCollector
        >>> collector = HistogramCollector(two_sided=True)
        >>> collector.collect(torch.tensor([2.0, -1.0]))
        >>> solve_ends([collector.histogram()], [QuantizerSpec(symmetric=False)])
        (tensor([-1.]), tensor([2.]))
    """
    symmetric = [spec.model_copy(update={"symmetric": True}) for spec in specs]
    low, high = torch.zeros(2, len(histograms))
    both = [n for n, one in enumerate(histograms) if one.amin < 0 < one.amax]
    if alike := [n for n in range(len(histograms)) if n not in set(both)]:
        unsigned = [symmetric[n].model_copy(update={"unsigned": True}) for n in alike]
        reach = solve([histograms[n] for n in alike], unsigned, search)
        below = torch.tensor([histograms[n].amin < 0 for n in alike])
        low[alike], high[alike] = torch.where(below, -reach, 0.0), torch.where(below, 0.0, reach)
    for (spec, *_), positions in _groups([histograms[n] for n in both], [symmetric[n] for n in both]).items():
        places = [both[position] for position in positions]
        solver = TWO_SIDED_SOLVERS[spec.calibrator.method]
        reaches = solver(stack([histograms[place] for place in places]), spec, search)
        low[places], high[places] = -reaches[0].float(), reaches[1].float()
    return low, high


def solve(histograms: Sequence[Histogram], specs: Sequence[QuantizerSpec], search: Search = EVERY_BIN) -> Tensor:
    """Returns the range of each quantizer without a zero point, the largest magnitude, float32 `(n,)`.

    Args:
        histograms: what each quantizer collected.
        specs: what each quantizer is. `unsigned: auto` is unsigned where no negative value was seen.
        search: which ranges mse and entropy try.

    Raises:
        CalibrationError: a histogram counted nothing.

    Example:
        >>> from qzoo.quant.calibration.collectors import HistogramCollector
        >>> collector = HistogramCollector()
        >>> collector.collect(torch.tensor([0.5, -1.0]))
        >>> solve([collector.histogram()], [QuantizerSpec()])
        tensor([1.])
    """
    amax = torch.empty(len(histograms), dtype=torch.float32)
    for (spec, *_), positions in _groups(histograms, specs).items():
        solved = SOLVERS[spec.calibrator.method](stack([histograms[p] for p in positions]), spec, search)
        amax[positions] = solved.float()
    return amax


def _groups(
    histograms: Sequence[Histogram], specs: Sequence[QuantizerSpec]
) -> dict[tuple[QuantizerSpec, str, int], list[int]]:
    """Returns the positions of histograms that are solved together."""
    groups: dict[tuple[QuantizerSpec, str, int], list[int]] = defaultdict(list)
    for position, (histogram, spec) in enumerate(zip(histograms, specs, strict=True)):
        if histogram.total == 0:
            raise CalibrationError(f"Histogram {position} counted nothing, so it has no range.")
        groups[_signed(spec, histogram), histogram.binning, len(histogram.counts)].append(position)
    return groups


def _signed(spec: QuantizerSpec, histogram: Histogram) -> QuantizerSpec:
    """Returns the spec with signedness settled, and without what no solver looks at, so that equal work is grouped."""
    unsigned = histogram.amin >= 0 if spec.unsigned == "auto" else spec.unsigned
    return spec.model_copy(update={"unsigned": unsigned, "per": "tensor"})
