"""From what was solved to what a quantizer gets: its range, its sign, its zero point.

`symmetric: auto` takes a zero point where it makes the step smaller by a tenth or more, which is 0.9 dB of noise; where
nothing negative was seen, that is always so, and the range begins at 0. Elsewhere the range reaches as far below 0 as
above, with the steps of a signed quantizer and the zero point in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers import solve, solve_ends
from qzoo.quant.fake_quant import grid
from qzoo.quant.zero_point import Range, asymmetric_range, symmetric_as_asymmetric
from qzoo.schema.quantizer import QuantizerSpec

WORTH_A_ZERO_POINT = 0.9
"""The largest ratio of the two steps with which `symmetric: auto` takes the range with two ends."""


def ranges_of_histograms(histograms: Sequence[Histogram], specs: Sequence[QuantizerSpec]) -> list[Range]:
    """Returns the range of each quantizer, of shape `()`, by the calibrator that its spec names.

    Args:
        histograms: what each quantizer collected.
        specs: what each quantizer is.

    Raises:
        CalibrationError: a histogram counted nothing, or counted magnitudes alone where signs are needed.
    """
    shifted = [n for n, spec in enumerate(specs) if spec.has_zero_point]
    one_sided = [n for n, spec in enumerate(specs) if spec.symmetric is not False]
    amax, (low, high) = torch.zeros(len(specs)), torch.zeros(2, len(specs))
    if one_sided:
        signed = [specs[n].model_copy(update={"symmetric": True}) for n in one_sided]
        amax[one_sided] = solve([histograms[n] for n in one_sided], signed)
    if shifted:
        low[shifted], high[shifted] = solve_ends([histograms[n] for n in shifted], [specs[n] for n in shifted])
    return [chosen(spec, amax[n], (low[n], high[n]), unsigned=histograms[n].amin >= 0) for n, spec in enumerate(specs)]


def range_of_extremes(smallest: Tensor, largest: Tensor, spec: QuantizerSpec) -> Range:
    """Returns the range that clips nothing.

    Args:
        smallest: the smallest value seen, any float dtype and shape.
        largest: the largest.
        spec: its calibrator is passed over.

    Example:
        >>> range_of_extremes(torch.tensor(-1.0), torch.tensor(2.0), QuantizerSpec()).amax
        tensor(2.)
    """
    low, high = smallest.float(), largest.float()
    amax = torch.maximum(high.abs(), low.abs())
    return chosen(spec, amax, (low, high), unsigned=bool((low >= 0).all()))


def chosen(spec: QuantizerSpec, amax: Tensor, ends: tuple[Tensor, Tensor], *, unsigned: bool = False) -> Range:
    """Returns what a quantizer gets of the ranges that were solved for it.

    Args:
        spec: says which of them it needs.
        amax: the range without a zero point, float32, any shape.
        ends: smallest and largest value of the range with one, shape of `amax`.
        unsigned: no negative value was seen.
    """
    if not spec.has_zero_point:
        return Range(amax, unsigned)
    on = grid(bits=spec.bits, unsigned=True)
    two_sided = asymmetric_range(*ends, on)
    return two_sided if spec.symmetric is False else _better(two_sided, symmetric_as_asymmetric(amax, on))


def _better(two_sided: Range, symmetric: Range) -> Range:
    assert two_sided.zero_point is not None
    assert symmetric.zero_point is not None
    pays = two_sided.amax <= WORTH_A_ZERO_POINT * symmetric.amax
    amax = torch.where(pays, two_sided.amax, symmetric.amax)
    return Range(amax, None, torch.where(pays, two_sided.zero_point, symmetric.zero_point))
