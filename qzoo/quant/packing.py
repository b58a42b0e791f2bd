"""Packing: a quantized weight as the few bits that it is, instead of float32.

A weight on an integer grid of 8 bits becomes int8 (unsigned: uint8); up to 4 bits, two or four values share a byte;
more than 8 bits take int16. A weight on an FP8 grid becomes that FP8 dtype. With its range it unpacks to exactly what
`fake_quantize` makes of the float weight (a negative zero becomes zero), and quantizing that again changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor, nn

from qzoo.quant.fake_quant import Grid, dequantize, quantize
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weights import quantized_weights


def packed_dtype(on: Grid) -> torch.dtype:
    """Returns the dtype that holds a grid's values.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> packed_dtype(grid(bits=8)), packed_dtype(grid(bits=4)), packed_dtype(grid("e4m3"))
        (torch.int8, torch.uint8, torch.float8_e4m3fn)
    """
    if on.fp8 is not None:
        return on.fp8
    if on.high - on.low >= 256:
        return torch.int16 if on.low < 0 else torch.int32
    return torch.int8 if on.low < 0 and values_per_byte(on) == 1 else torch.uint8


def values_per_byte(on: Grid) -> int:
    """Returns how many values of a grid share a byte: 4 of 2 bits, 2 of 3 or 4 bits, else 1."""
    levels = math.inf if on.fp8 is not None else on.high - on.low + 1
    return 4 if levels <= 4 else 2 if levels <= 16 else 1


def packed_shape(shape: tuple[int, ...], on: Grid) -> tuple[int, ...]:
    """Returns the shape of a packed weight: its own, or one dimension of bytes that hold several values each."""
    share = values_per_byte(on)
    return shape if share == 1 else (-(-math.prod(shape) // share),)


def pack(weight: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> Tensor:
    """Returns the packed weight.

    Args:
        weight: float, any shape; not changed.
        amax: its range, broadcastable against it.
        on: its grid.
        zero_point: integers of the grid, shape of `amax`; None: 0 comes to 0.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> pack(torch.tensor([0.5, -1.0, 1.0]), torch.tensor(1.0), grid(bits=4))
        tensor([28, 15], dtype=torch.uint8)
    """
    values, share = quantize(weight, amax, on, zero_point), values_per_byte(on)
    if share == 1:
        return values.to(packed_dtype(on))
    codes = (values - on.low).to(torch.uint8).flatten()
    codes = nn.functional.pad(codes, (0, -len(codes) % share)).view(-1, share)
    # The first value has the lowest bits.
    return (codes << _shifts(share, codes)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, amax: Tensor, on: Grid, shape: tuple[int, ...], zero_point: Tensor | None = None) -> Tensor:
    """Returns the weight on its grid, float32: what `fake_quantize` makes of the weight that was packed."""
    share = values_per_byte(on)
    if share == 1:
        return dequantize(packed, amax, on, zero_point)
    codes = (packed.unsqueeze(1) >> _shifts(share, packed)) & (2 ** (8 // share) - 1)
    values = codes.flatten()[: math.prod(shape)].view(shape).float() + on.low
    return dequantize(values, amax, on, zero_point)


def packed_fault(packed: Tensor, on: Grid, shape: tuple[int, ...]) -> str | None:
    """Returns what no packed weight of a grid holds, as the end of a sentence; None if there is nothing of that kind.

    Args:
        packed: the packed values, with `packed_dtype(on)` and `packed_shape(shape, on)`.
        on: the grid.
        shape: the shape of the weight.
    """
    share = values_per_byte(on)
    if on.fp8 is not None:
        values, low, high = packed.float(), on.low, on.high
        odd = ~((values >= low) & (values <= high))  # NaN is neither
    else:
        codes = packed if share == 1 else (packed.unsqueeze(1) >> _shifts(share, packed)) & (2 ** (8 // share) - 1)
        values = codes.flatten().int()
        # A shared byte counts from the lowest value.
        low, high = (on.low, on.high) if share == 1 else (0, on.high - on.low)
        odd = (values < low) | (values > high)
        if share > 1 and bool(values[math.prod(shape) :].any()):
            return "has bits set behind its last value"
    return f"holds {values[odd][0]:g}, its grid {low:g} to {high:g}" if bool(odd.any()) else None


def packable(model: nn.Module) -> dict[str, tuple[str, TensorQuantizer]]:
    """Returns the weights of a calibrated model that can be packed, by key of the state dict.

    Beside each stand the path of its quantizer, and the quantizer. A weight that two modules share or that is quantized
    twice stays float, since each might quantize it in another way; so does one that is computed anew each time.
    """
    held = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    weights = {path: one for path, one in quantized_weights(model).items() if one.key is not None}
    read = Counter(one.key for one in weights.values())
    return {
        one.key: (path, one.quantizer)
        for path, one in weights.items()
        if one.key is not None and read[one.key] == 1 and held[id(one.values)] == 1
    }


def _shifts(share: int, like: Tensor) -> Tensor:
    return torch.arange(share, dtype=torch.uint8, device=like.device) * (8 // share)
