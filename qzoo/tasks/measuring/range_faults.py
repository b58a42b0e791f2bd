"""Is a range the one that its calibrator finds? Weights tell exactly, images as far as a few of them can.

A range is too narrow where it leaves out much of the one that is found, and too wide where it is much larger. How much
that is depends on what the range is found in:

    weights                        less than 4/5, more than 5/4    the very values, though somebody may train them
    images, by percentile or mse   less than 4/5, more than 8/5    64 images give what 1,024 do, or nearly
    images, by max or entropy      less than 7/8, more than 1.9    rare values count, of which fewer images have fewer

In images a range is found four times, each time without another quarter of them, and the smallest counts: one odd image
makes a range twice as large, and lies in one quarter alone. `benchmarks/planted_ranges.py` measures what these bounds
find, and how often they are wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.weight_ranges import quantized_weight_range
from qzoo.quant.fake_quant import Grid, fake_quantize, represented
from qzoo.quant.grouped import along_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight
from qzoo.quant.weights import QuantizedWeight
from qzoo.quant.zero_point import Range
from qzoo.results.check import CheckedQuantizer, Fault
from qzoo.schema.quantizer import QuantizerSpec


class Bounds(NamedTuple):
    """The least share of the range found that a range has to hold, and how many times as wide it may be."""

    least: float
    most: float


OF_WEIGHTS, OF_SHARES, OF_EXTREMES = Bounds(4 / 5, 5 / 4), Bounds(4 / 5, 8 / 5), Bounds(7 / 8, 1.9)
ON_GRID = 1e-4
"""By how much of itself a weight that lies on its grid may be off: what float arithmetic rounds, and no more."""


class Ends(NamedTuple):
    """Smallest and largest values, of one shape."""

    low: Tensor
    high: Tensor


def ends_of(found: Range, on: Grid) -> Ends:
    """Returns what a range represents, float32 of the shape of its `amax`.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> ends_of(Range(torch.tensor(3.0), None, torch.tensor(1)), grid(bits=2, unsigned=True))
        Ends(low=tensor(-1.), high=tensor(2.))
    """
    low, high = represented(found.amax, on, found.zero_point)
    return Ends(torch.as_tensor(low, dtype=torch.float32).expand_as(found.amax), torch.as_tensor(high))


def share_held(used: Ends, needed: Ends) -> Tensor:
    """Returns how much of what is needed a range holds, 0 to 1; where nothing is, 1.

    Example:
        >>> one, two = torch.tensor(1.0), torch.tensor(2.0)
        >>> share_held(Ends(-one, one), Ends(-two, two))
        tensor(0.5000)
    """
    width = needed.high - needed.low
    held = torch.minimum(used.high, needed.high) - torch.maximum(used.low, needed.low)
    return torch.where(width > 0, held.clamp(min=0) / width, 1.0)


def bounds_of(spec: QuantizerSpec) -> Bounds:
    """Returns how far off the range of an activation may be.

    Example:
        >>> bounds_of(QuantizerSpec(calibrator="max")).most, bounds_of(QuantizerSpec(calibrator="mse")).most
        (1.9, 1.6)
    """
    extremes = spec.calibrator.method in ("max", "entropy") or spec.calibrator.percentile == 100
    return OF_EXTREMES if extremes else OF_SHARES


def check_activation(
    path: str, quantizer: TensorQuantizer, found: Range, seen: HistogramCollector, *, judged: bool
) -> CheckedQuantizer:
    """Returns what is to be said of the quantizer of an activation.

    Args:
        path: its path.
        quantizer: calibrated.
        found: the range that its calibrator finds, for the sign that the quantizer has.
        seen: all that it saw, of both signs.
        judged: whether its range is to be the one found.
    """
    used, on = _on_cpu(quantizer.amax, quantizer.zero_point), quantizer.grid
    here, ends = ends_of(found, on), ends_of(used, on)
    # What reaches as far below 0 as above need not do so where there is little below.
    needed = Ends(here.low.clamp(min=min(float(seen.amin), 0.0)), here.high.clamp(max=max(float(seen.amax), 0.0)))
    fit = _Fit(share_held(ends, needed), _ratio(used, found), bounds_of(quantizer.spec) if judged else None)
    return _checked(path, fit, ends, here, _share_beyond(seen, ends, float(used.amax) / on.bound / 2))


def check_weight(path: str, weight: QuantizedWeight, *, judged: bool) -> CheckedQuantizer:
    """Returns what is to be said of the quantizer of a weight; its channel that disagrees most speaks for all.

    Args:
        path: its path.
        weight: with its values.
        judged: whether its range is to be the one found. That of a weight that lies on its grid never is: it was
            rounded there, and any other range would round it anew.
    """
    assert weight.values is not None
    quantizer, values = weight.quantizer, weight.values.detach().float().cpu()
    used, on = _on_cpu(quantizer.amax, quantizer.zero_point), quantizer.grid
    solved = quantized_weight_range(weight)
    found = _on_cpu(solved.amax, solved.zero_point)
    rounded = fake_quantize(values, used.amax, on, used.zero_point)
    on_grid = torch.allclose(rounded, values, rtol=ON_GRID, atol=0.0)
    here, ends = ends_of(found, on), ends_of(used, on)
    fit = _Fit(share_held(ends, here), _ratio(used, found), OF_WEIGHTS if judged and not on_grid else None)
    low, high = (along_weight(end, values) for end in ends)
    half = along_weight(used.amax, values) / on.bound / 2
    return _checked(path, fit, ends, here, float(((values < low - half) | (values > high + half)).float().mean()))


class _Fit(NamedTuple):
    """How a range, or that of each channel, fits the one found.

    Attributes:
        held: the share that it holds of what is needed.
        ratio: the range divided by the one found; NaN where that is 0, as only zeros came by.
        bounds: what both may be; None where they may be anything.
    """

    held: Tensor
    ratio: Tensor
    bounds: Bounds | None

    @property
    def fault(self) -> Fault | None:
        """What is wrong."""
        if self.bounds is None:
            return None
        if bool((self.held < self.bounds.least).any()):
            return "narrow"
        return "wide" if bool((self.ratio > self.bounds.most).any()) else None

    @property
    def worst(self) -> int:
        """The place of the channel that disagrees most."""
        return int(torch.maximum(1 / self.held, self.ratio.nan_to_num(1.0)).argmax())


def _checked(path: str, fit: _Fit, used: Ends, found: Ends, beyond: float) -> CheckedQuantizer:
    ratio = float(fit.ratio.flatten()[fit.worst])
    return CheckedQuantizer(
        path=path,
        of="weight" if is_of_weight(path) else "activation",
        range=_at(used, fit.worst),
        found=_at(found, fit.worst),
        ratio=None if math.isnan(ratio) else ratio,
        clipped=round(100 * beyond, 4),
        fault=fit.fault,
        judged=fit.bounds is not None,
    )


def _ratio(used: Range, found: Range) -> Tensor:
    return torch.where(found.amax > 0, used.amax / found.amax, torch.nan)


def _on_cpu(amax: Tensor, zero_point: Tensor | None) -> Range:
    return Range(amax.detach().cpu(), None, None if zero_point is None else zero_point.detach().cpu())


def _at(ends: Ends, place: int) -> tuple[float, float]:
    return float(ends.low.flatten()[place]), float(ends.high.flatten()[place])


def _share_beyond(seen: HistogramCollector, ends: Ends, half: float) -> float:
    """Returns the share of what was seen that rounding alone does not explain: half a step beyond the range."""
    histogram = seen.histogram()
    assert histogram.negatives is not None
    above = histogram.edges[:-1] > float(ends.high) + half
    below = histogram.edges[:-1] > half - float(ends.low)
    beyond = (histogram.counts - histogram.negatives)[above].sum() + histogram.negatives[below].sum()
    return float(beyond) / max(histogram.total, 1)
