"""How far the rounding of a weight is from the usual one, in few bits: what learned rounding chose.

The float weight is known to whoever reads it, so a weight of 4 bits takes 1: whether it is rounded up or down.

    start    nearest: round(w * scale)       floor: floor(w * scale)       grid: the lowest value of the grid
    code     value - start - low                                            low: the least of value - start

Of the three starts the one is taken whose codes need the fewest bits: none where every value is the nearest one, one
for AdaRound and its kin, two or more where other values were moved to make up for errors, as GPTQ does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.bit_packing import Width, pack_bits, unpack_bits, width_of
from qzoo.quant.fake_quant import Grid, quantization_scale, quantize
from qzoo.quant.grouped import along_weight

Start = Literal["nearest", "floor", "grid"]
STARTS: tuple[Start, ...] = ("nearest", "floor", "grid")


class Codes(NamedTuple):
    """The rounding of one weight.

    Attributes:
        start: what is counted from.
        width: bits of a code.
        low: the least distance from the start.
        packed: uint8, see `pack_bits`.
    """

    start: Start
    width: Width
    low: int
    packed: Tensor


def rounding_codes(
    values: Tensor, weight: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None
) -> Codes | None:
    """Returns what tells the values of the grid apart from those of the float weight; None where no byte holds it.

    Args:
        values: whole numbers of the grid, of the weight's shape; any dtype.
        weight: float, as it was before it was rounded.
        amax: its range.
        on: its grid, of integers.
        zero_point: its zero point, if it has one.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> codes = rounding_codes(torch.tensor([1.0, 4.0]), torch.tensor([1.6, 3.4]), torch.tensor(7.0), grid(bits=4))
        >>> codes.start, codes.width, codes.packed
        ('floor', 1, tensor([2], dtype=torch.uint8))
    """
    found = (_codes(values, _start(weight, amax, on, zero_point, start), start) for start in STARTS)
    return min((one for one in found if one is not None), key=lambda one: one.width, default=None)


def rounded_values(codes: Codes, weight: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> Tensor:
    """Returns the values of the grid that codes stand for: float32, shape of the weight.

    Args:
        codes: what `rounding_codes` returned.
        weight: the same float weight, bit for bit.
        amax: its range.
        on: its grid.
        zero_point: its zero point, if it has one.
    """
    distance = unpack_bits(codes.packed, codes.width, weight.numel()).view(weight.shape)
    return _start(weight, amax, on, zero_point, codes.start) + (distance.float() + codes.low)


def _codes(values: Tensor, starts: Tensor, start: Start) -> Codes | None:
    distance = (values.float() - starts).to(torch.int32)
    low, high = (int(one) for one in distance.aminmax()) if distance.numel() else (0, 0)
    width = width_of(high - low)
    return None if width is None else Codes(start, width, low, pack_bits(distance - low, width))


def _start(weight: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None, start: Start) -> Tensor:
    if start == "nearest":
        return quantize(weight, amax, on, zero_point)
    if start == "grid":
        return torch.full_like(weight, on.low, dtype=torch.float32)
    steps = (weight.float() * quantization_scale(along_weight(amax, weight), on)).floor_()
    if zero_point is not None:
        steps += along_weight(zero_point, weight)
    return steps.clamp_(on.low, on.high)
