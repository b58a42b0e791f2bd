"""Fake quantization: the only place where the arithmetic of the zoo exists.

A value is scaled onto a small grid, rounded, clamped and scaled back, so that a float model computes what an
integer (or FP8) one would. `amax` is the largest absolute value that the grid represents:

    scale = bound / amax
    int   q = clamp(round_half_even(x * scale), low, high)        y = q / scale
    fp8   q = to_fp8(clamp(x * scale, -bound, bound))             y = q / scale

An asymmetric quantizer has a zero point besides, an integer of the grid `0 .. 2**bits - 1` to which 0 comes; its `amax`
is the width of its range, from the smallest to the largest value that it represents (see `quant.zero_point`):

    int   q = clamp(round_half_even(x * scale) + zero_point, low, high)        y = (q - zero_point) / scale

Sources: the CPU path of NVIDIA pytorch-quantization 2.2.1 (`tensor_quant`), whose numbers these are, bit for bit;
the zero point of Jacob et al. 2017, "Quantization and Training of Neural Networks" (arXiv 1712.05877), section 2.1;
the FP8 formats of Micikevicius et al., "FP8 Formats for Deep Learning" (arXiv 2209.05433), saturating.
The gradient is the clipped straight-through estimator of Bengio et al. 2013 (arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.backward import is_last_use, pass_between
from qzoo.quant.grouped import along_weight
from qzoo.quant.pieces import in_pieces, pieces
from qzoo.quant.tracing import has_values, is_traced, is_transformed

Format = Literal["int", "e4m3", "e5m2"]

FP8_DTYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}

SMALLEST_AMAX = 2.0**-24
"""A range this small or smaller holds nothing: its output is 0 (as in the reference)."""


class Grid(NamedTuple):
    """The representable values, before scaling: `low .. high`, and the `bound` that `amax` is scaled to."""

    low: float
    high: float
    bound: float
    fp8: torch.dtype | None = None


def grid(format: Format = "int", bits: int = 8, unsigned: bool = False, narrow: bool = False) -> Grid:
    """Returns the grid of a number format.

    Args:
        format: `int`, or one of the FP8 formats, for which the other arguments do not matter.
        bits: 2 to 16.
        unsigned: from 0; the bound is `2**bits - 1` instead of `2**(bits-1) - 1`.
        narrow: leave out the lowest signed value, so that the grid is symmetric.

    Example:
        >>> grid(bits=8)
        Grid(low=-128, high=127, bound=127, fp8=None)
        >>> grid("e4m3").bound
        448.0
    """
    if format != "int":
        bound = torch.finfo(FP8_DTYPES[format]).max
        return Grid(-bound, bound, bound, FP8_DTYPES[format])
    if unsigned:
        return Grid(0, 2**bits - 1, 2**bits - 1)
    bound = 2 ** (bits - 1) - 1
    return Grid(-bound if narrow else -bound - 1, bound, bound)


def fake_quantize(x: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None, *, kept: bool = False) -> Tensor:
    """Returns `x` rounded to the grid that spans `amax`; the gradient passes inside the range and is 0 outside.

    Args:
        x: any shape, float32, float16 or bfloat16; not changed. The arithmetic is float32.
        amax: float32, at least 0; broadcasts against `x`: `()` per tensor, `(C, 1, 1, 1)` per channel of a kernel; or
            has a dimension more, see `quant.grouped`.
        on: what `grid` returns; with a zero point, an unsigned one.
        zero_point: integers of the grid, any dtype, shape of `amax`; None: 0 comes to 0.
        kept: nobody writes to `x`, or to what is returned, before the backward pass, so that they need not be copied
            for it.

    Returns:
        Shape and dtype of `x`.

    Example:
        >>> fake_quantize(torch.tensor([0.3, 0.52, 2.0]), torch.tensor(1.0), grid(bits=2))
        tensor([0., 1., 1.])
        >>> x, on = torch.tensor([-9.0, 0.3, 9.0]), grid(bits=2, unsigned=True)
        >>> fake_quantize(x, torch.tensor(3.0), on, torch.tensor(1))
        tensor([-1.,  0.,  2.])
    """
    amax, zero_point = along_weight(amax, x), None if zero_point is None else along_weight(zero_point, x)
    if is_transformed(x):
        return _followed_straight_through(x, amax, on, zero_point)
    # A traced graph has no place for a function of our own, and no gradient.
    if torch.is_grad_enabled() and x.requires_grad and not is_traced():
        return _StraightThrough.apply(x, amax, on, zero_point, kept)  # type: ignore[no-any-return]
    return _quantize_dequantize(x, amax, on, zero_point)


def quantization_scale(amax: Tensor, on: Grid) -> Tensor:
    """Returns how many steps of the grid one unit holds, float32, shape of `amax`; 0 where the range is empty.

    A range that is NaN, which is none, has a scale that is NaN too: what it quantizes does not pass for a number.
    """
    amax = amax.float()
    # number / tensor would be number * (1 / tensor), an ulp off at times
    return torch.where(amax <= SMALLEST_AMAX, 0.0, torch.full_like(amax, on.bound) / amax)


def quantize(x: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> Tensor:
    """Returns the values of the grid that `x` comes to, before they are scaled back: float32, shape of `x`.

    Example:
        >>> quantize(torch.tensor([0.3, 0.52, 2.0]), torch.tensor(1.0), grid(bits=4))
        tensor([2., 4., 7.])
    """
    zero_point = None if zero_point is None else along_weight(zero_point, x)
    steps = _steps(x, quantization_scale(along_weight(amax, x), on), on, zero_point)
    return steps if zero_point is None else steps.add_(zero_point)


def dequantize(values: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> Tensor:
    """Returns values of the grid scaled back: `dequantize(quantize(x, ...), ...)` is `fake_quantize(x, ...)`.

    Args:
        values: values of the grid, any dtype that holds them; not changed.
        amax: as it was when they were quantized.
        on: the grid on which they were quantized.
        zero_point: as it was when they were quantized.

    Returns:
        float32.
    """
    steps = values.float() if zero_point is None else values.float() - along_weight(zero_point, values)
    return steps / _divisor(quantization_scale(along_weight(amax, values), on))


def represented(amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> tuple[Tensor | float, Tensor | float]:
    """Returns the smallest and the largest value that are represented, shape of `amax` or a number.

    The lowest value of a signed grid, one step further out than `amax`, is not counted.

    Example:
        >>> represented(torch.tensor(3.0), grid(bits=2, unsigned=True), torch.tensor(1))
        (tensor(-1.), tensor(2.))
    """
    if zero_point is None:
        return (0.0 if on.low == 0 else -amax), amax
    zero_point = zero_point.to(torch.float32)
    return amax * ((on.low - zero_point) / on.bound), amax * ((on.high - zero_point) / on.bound)


def fake_quantize_affine(x: Tensor, smallest: Tensor, largest: Tensor, bits: int = 8) -> Tensor:
    """Returns `x` rounded to `2**bits` steps from about `smallest` to `largest`, one of which is 0.

        step = (largest - smallest) / (2**bits - 1)         zero = round(smallest / step) - low
        q = clamp(round(x / step) - zero, low, high)        y = (q + zero) * step

    with `low = -2**(bits-1)`, `high = 2**(bits-1) - 1`. It has no gradient. No recipe uses it: it divides by a rounded
    step where `fake_quantize` multiplies by a scale, and a range that leaves out 0 clamps no zero point.

    Args:
        x: float32, any shape; not changed.
        smallest: float32 `()`.
        largest: float32 `()`, above `smallest`.
        bits: the number of bits of the values.

    Source: `FakeAffineTensorQuantFunction` of pytorch-quantization 2.2.1, after the scheme of gemmlowp.

    Example:
        >>> fake_quantize_affine(torch.tensor([-1.0, 0.4, 9.0]), torch.tensor(-1.0), torch.tensor(2.0), bits=2)
        tensor([-1.,  0.,  2.])
    """
    step: Tensor = (largest - smallest) / (2.0**bits - 1)
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    zero = torch.round(smallest / step) - low
    return (torch.round(x / step).sub_(zero).clamp_(low, high) + zero) * step


def _divisor(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)


def grid_ends(on: Grid, zero_point: Tensor | None) -> tuple[Any, Any]:
    """Returns lowest and highest value of the grid, counted from the zero point: numbers, or of its shape."""
    if zero_point is None:
        return on.low, on.high
    if _is_number(zero_point):
        return on.low - float(zero_point), on.high - float(zero_point)
    zero_point = zero_point.to(torch.float32)
    return on.low - zero_point, on.high - zero_point


def _steps(x: Tensor, scale: Tensor, on: Grid, zero_point: Tensor | None) -> Tensor:
    """Returns the values of the grid without their zero point, as fresh float32."""
    y = x.float() * scale
    if on.fp8 is None:
        return _clamp(y.round_(), on, zero_point)
    return y.clamp_(on.low, on.high).to(on.fp8).float()


def _clamp(steps: Tensor, on: Grid, zero_point: Tensor | None) -> Tensor:
    if zero_point is None or _is_number(zero_point):
        return steps.clamp_(*grid_ends(on, zero_point))
    # Clamping by tensors takes several times as long on a CPU.
    zero_point = zero_point.to(torch.float32)
    return steps.add_(zero_point).clamp_(on.low, on.high).sub_(zero_point)


def _is_number(zero_point: Tensor) -> bool:
    return zero_point.dim() == 0 and has_values(zero_point)


def _quantize_dequantize(x: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None) -> Tensor:
    scale = quantization_scale(amax, on)
    divisor = _divisor(scale)
    # One allocation, then in place: on a CPU memory traffic is the cost, and fresh pages are the worst of it.
    if on.fp8 is None and in_pieces(x, scale):
        y, (low, high) = torch.empty_like(x), grid_ends(on, zero_point)
        for part, source in zip(pieces(y), pieces(x), strict=True):
            torch.mul(source, scale, out=part).round_().clamp_(low, high).div_(divisor)
        return y
    return _steps(x, scale, on, zero_point).div_(divisor).to(x.dtype)


def _followed_straight_through(x: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None) -> Tensor:
    """Returns what `_StraightThrough` does, of operators that every transform can follow; what is added is 0."""
    low, high = represented(amax, on, zero_point)
    inside = torch.where((x >= low) & (x <= high), x, 0.0)
    return _quantize_dequantize(x.detach(), amax, on, zero_point) + (inside - inside.detach())


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None, kept: bool) -> Tensor:
        y = _quantize_dequantize(x, amax, on, zero_point)
        # Who saves a tensor forbids to write to it afterwards, which the float model might do.
        ctx.save_for_backward(x if kept else x.clone(), amax, y if kept else None, zero_point)
        ctx.on = on
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, amax, y, zero_point = ctx.saved_tensors
        into = y if y is not None and is_last_use(y) else None
        return pass_between(grad, x, *represented(amax, ctx.on, zero_point), into), None, None, None, None
