"""Learned step sizes (LSQ): fake quantization that also has a gradient for the range.

    v      = x * bound / amax                                             x in steps of the grid
    dy/dx  = 1 where low <= v <= high, else 0
    dy/ds  = round(v) - v where low <= v <= high, else low or high         s = amax / bound, the size of a step

The gradient of a step size is a sum over many values, so it would outgrow the gradients of weights; it is multiplied
by `g = 1 / sqrt(N * high)`, N being the number of weights, or of values that one image has. What is trained here is
`amax = bound * s`. Its gradient is `bound * g * dL/ds`, by which a step of gradient descent moves `s` exactly as if `s`
were the parameter.

A zero point z is learned beside it, between the integers; it is rounded where it is used, so that 0 stays exact, and
the gradient passes its rounding. `low - z` and `high - z` stand for `low` and `high` above, and `b = -s * z` is the
offset of LSQ+:

    dy/db  = 0 where low - z <= v <= high - z, else 1

What is trained is `z`. Its gradient is `-g * dL/db / s`, by which a step moves `b` exactly as if `b` were the
parameter.

Source: S. K. Esser et al. 2019, "Learned Step Size Quantization" (arXiv 1902.08153), equations 3 to 5 and section 2.2;
Y. Bhalgat et al. 2020, "LSQ+" (arXiv 2004.09576), equations 3 to 6, whose offset need not be a multiple of the step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qzoo.quant.backward import is_last_use, is_plain, pass_between
from qzoo.quant.fake_quant import SMALLEST_AMAX, Grid, fake_quantize, grid_ends, quantization_scale
from qzoo.quant.grouped import along_weight
from qzoo.quant.pieces import PIECE, in_pieces, pieces
from qzoo.quant.zero_point import on_grid

SMALLEST_LEARNED = 2 * SMALLEST_AMAX
"""A range that is trained stays at least this large: a smaller one would hold nothing, for good."""
WORTH_PIECES = 1 << 19
"""From this many values on, the many steps of a backward pass are faster piece by piece."""


def learned_fake_quantize(
    x: Tensor, amax: Tensor, on: Grid, count: int, zero_point: Tensor | None = None, *, kept: bool = False
) -> Tensor:
    """Returns what `fake_quantize` returns, bit for bit; the gradients are those of LSQ, with a zero point of LSQ+.

    Args:
        x: any shape, float32, float16 or bfloat16; not changed. The arithmetic is float32.
        amax: float32, positive; broadcasts against `x`, or has a dimension more, see `quant.grouped`.
        on: an integer grid.
        count: how many values share one range: N of the formula.
        zero_point: float32, shape of `amax`, rounded to integers of the grid; None: 0 comes to 0.
        kept: nobody writes to `x`, or to what is returned, before the backward pass, so that they need not be copied
            for it.

    Returns:
        Shape and dtype of `x`.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> amax = torch.tensor(1.0, requires_grad=True)
        >>> learned_fake_quantize(torch.tensor([0.3, 0.52, 2.0]), amax, grid(bits=2), count=3).sum().backward()
        >>> amax.grad  # (-0.3 + 0.48 + 1) / sqrt(3 * 1)
        tensor(0.6813)
    """
    zero_point = None if zero_point is None else along_weight(zero_point, x)
    gain = gradient_scale(on, count)
    return _LearnedStep.apply(x, along_weight(amax, x), zero_point, on, gain, kept)  # type: ignore[no-any-return]


def gradient_scale(on: Grid, count: int) -> float:
    """Returns the factor between the gradient of a step size and that of `amax`: `bound / sqrt(N * high)`.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> gradient_scale(grid(bits=4), count=28)
        0.5
    """
    return on.bound / math.sqrt(max(count, 1) * on.high)


def initial_amax(x: Tensor, on: Grid, dims: tuple[int, ...]) -> Tensor:
    """Returns the range that LSQ starts from: a step of `2 * mean(|x|) / sqrt(high)`.

    Args:
        x: the weight, or a batch of activations.
        on: its grid.
        dims: what one range spans; these keep their place, with size 1. All of them: one range, shape `()`.

    Source: arXiv 1902.08153, section 2.1.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> initial_amax(torch.tensor([1.0, -3.0]), grid(bits=4), (0,))  # 7 steps of 2 * 2 / sqrt(7)
        tensor(10.5830)
    """
    magnitude = x.detach().float().abs()
    mean = magnitude.mean() if len(dims) == x.dim() else magnitude.mean(dims, keepdim=True)
    return (mean * (2 * on.bound / math.sqrt(on.high))).clamp_(min=SMALLEST_LEARNED)


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, amax: Tensor, zero_point: Tensor | None, on: Grid, gain: float, kept: bool
    ) -> Tensor:
        zero = None if zero_point is None else on_grid(zero_point.detach(), on)
        y = fake_quantize(x.detach(), amax.detach(), on, zero)
        # Who saves a tensor forbids to write to it afterwards, which the float model might do.
        ctx.save_for_backward(x if kept else x.clone(), amax, y if kept else None, zero)
        ctx.on, ctx.gain = on, gain
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        x, amax, y, zero = ctx.saved_tensors
        scale = quantization_scale(amax, ctx.on)
        ends = grid_ends(ctx.on, zero)
        if y is not None and _serves_piecewise(grad, x, y, scale):
            of_x, of_step, of_offset = _gradients_piecewise(
                grad, x, y, y if is_last_use(y) else torch.empty_like(y), scale, ends, zero is not None
            )
        else:
            of_x, of_step = _gradients(grad, x, scale, ends)
            of_offset = None if zero is None else (grad.float() - of_x).sum_to_size(scale.shape)
        of_zero = None if of_offset is None else of_offset * scale * (-ctx.gain / ctx.on.bound)
        return of_x, of_step * ctx.gain, of_zero, None, None, None


Ends = tuple[Any, Any]
"""Lowest and highest value of a grid, counted from the zero point."""


def _gradients(grad: Tensor, x: Tensor, scale: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `x` and of the step sizes; the latter float32, of the shape of `scale`."""
    v = x.float() * scale
    inside = pass_between(v, v, *ends)
    of_step = v.round().clamp_(*ends).sub_(inside)
    return pass_between(grad, v, *ends), (grad.float() * of_step).sum_to_size(scale.shape)


def _serves_piecewise(grad: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> bool:
    alike = grad.stride() == x.stride() == y.stride()
    return alike and is_plain(grad, x) and in_pieces(x, scale, WORTH_PIECES) and not torch.is_grad_enabled()


def _gradients_piecewise(
    grad: Tensor, x: Tensor, y: Tensor, of_x: Tensor, scale: Tensor, ends: Ends, has_offset: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns what `_gradients` returns, and the gradient of the offset, from the quantized values `y`.

    Writes into `of_x`, which may be `y`.
    """
    low, high = _bounds(scale.item(), float(ends[0]), float(ends[1]))
    scratch, of_step, of_offset = x.new_empty(PIECE), [], []
    for part_of_grad, part, quantized, target in zip(*map(pieces, (grad, x, y, of_x)), strict=True):
        inside = pass_between(part, part, low, high, into=scratch[: len(part)])
        of_step.append(torch.dot(part_of_grad, torch.sub(quantized, inside, out=inside)))
        pass_between(part_of_grad, part, low, high, into=target)
        if has_offset:
            of_offset.append(torch.sub(part_of_grad, target, out=inside).sum())
    return of_x, torch.stack(of_step).sum() * scale, torch.stack(of_offset).sum() if has_offset else None


def _bounds(scale: float, low: float, high: float) -> tuple[float, float]:
    """Returns the outermost x whose `x * scale` is within the grid, in float32 arithmetic."""
    with np.errstate(all="ignore"):  # a range that overflowed is told elsewhere
        return -_largest(-low, scale), _largest(high, scale)


def _largest(bound: float, scale: float) -> float:
    factor, infinity = np.float32(scale), np.float32(np.inf)
    x = np.float32(bound) / factor
    while x * factor > bound:
        x = np.nextafter(x, -infinity)
    while (above := np.nextafter(x, infinity)) * factor <= bound:
        x = above
    return float(x)


def keep_positive(parameter: nn.Parameter) -> None:
    """Puts a trained range that became too small, or negative, back to the smallest one, in place."""
    with torch.no_grad():
        parameter.clamp_(min=SMALLEST_LEARNED)
