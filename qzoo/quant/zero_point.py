"""Zero points: a range from a smallest to a largest value as a width, and the integer to which 0 comes.

A range always holds 0, and 0 is represented exactly, since padding, ReLU and masks make many zeros:

    low, high    = min(smallest, 0), max(largest, 0)
    amax         = high - low                                   the width of the range
    zero_point   = round_half_even(bound * -low / amax)         bound = 2**bits - 1; 0 where the range is empty

So each end of what is represented, see `fake_quant.represented`, is within half a step of the end that was asked for.

Source: Jacob et al. 2017, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv 1712.05877), sections 2.1 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qzoo.quant.fake_quant import SMALLEST_AMAX, Grid


class Range(NamedTuple):
    """What a quantizer gets from calibration, in the order in which `TensorQuantizer.set_amax` takes it.

    Attributes:
        amax: float32: the largest magnitude, or, beside a zero point, the width.
        unsigned: whether no negative value was seen.
        zero_point: int32, shape of `amax`; None where the quantizer is symmetric.
    """

    amax: Tensor
    unsigned: bool | None = None
    zero_point: Tensor | None = None


def asymmetric_range(smallest: Tensor, largest: Tensor, on: Grid) -> Range:
    """Returns the range that reaches from the smallest to the largest value, and holds 0.

    Args:
        smallest: any float dtype and shape, finite.
        largest: shape of `smallest`.
        on: an unsigned grid.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> asymmetric_range(torch.tensor(-1.0), torch.tensor(2.0), grid(bits=8, unsigned=True))[::2]
        (tensor(3.), tensor(85, dtype=torch.int32))
    """
    low, high = smallest.float().clamp(max=0), largest.float().clamp(min=0)
    # Of two large float32 numbers the difference may be infinite.
    width = (high - low).clamp(max=torch.finfo(torch.float32).max)
    share = (low / 2) / (low / 2 - high / 2)
    zero_point = torch.where(width > SMALLEST_AMAX, share * on.bound, 0.0).round()
    return Range(width, None, zero_point.to(torch.int32))


def symmetric_as_asymmetric(amax: Tensor, on: Grid) -> Range:
    """Returns the range with a zero point that has the steps of a symmetric signed range, `2 * amax / (bound - 1)`.

    The zero point is the middle, `2**(bits-1)`, so that the values of the grid are those of the signed one plus that.
    The step is the same but for the last bit of its scale, which two float32 divisions round each in its own way.

    Args:
        amax: the largest magnitude, float32, any shape.
        on: an unsigned grid.
    """
    middle = (int(on.bound) + 1) // 2
    width = (amax.double() * on.bound / (middle - 1)).clamp(max=torch.finfo(torch.float32).max)
    return Range(width.float(), None, torch.full_like(amax, middle, dtype=torch.int32))


def on_grid(zero_point: Tensor, on: Grid) -> Tensor:
    """Returns zero points that may lie between integers, or beside the grid, as integers of the grid; dtype as it was.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> on_grid(torch.tensor([-0.7, 1.2, 9.0]), grid(bits=2, unsigned=True))
        tensor([0., 1., 3.])
    """
    return zero_point.round().clamp(on.low, on.high)


def zero_point_fault(zero_point: Tensor, shape: Sequence[int], on: Grid) -> str | None:
    """Returns why a tensor holds no zero points of a grid, as the end of a sentence; None if it does.

    Args:
        zero_point: any.
        shape: that of the ranges that they belong to.
        on: the grid.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> zero_point_fault(torch.tensor(256, dtype=torch.int32), (), grid(bits=8, unsigned=True))
        'holds 256, its grid 0 to 255'
    """
    if zero_point.is_floating_point() or zero_point.is_complex() or zero_point.dtype == torch.bool:
        return f"is {str(zero_point.dtype).removeprefix('torch.')}, expected integers"
    if tuple(zero_point.shape) != tuple(shape):
        return f"has shape {tuple(zero_point.shape)}, its range {tuple(shape)}"
    odd = (zero_point < on.low) | (zero_point > on.high)
    return f"holds {int(zero_point[odd][0])}, its grid {on.low:g} to {on.high:g}" if bool(odd.any()) else None
