"""Learned step sizes (LSQ): fake quantization that also has a gradient for the range.

    v      = x * bound / amax                                             x in steps of the grid
    dy/dx  = 1 where low <= v <= high, else 0
    dy/ds  = round(v) - v where low <= v <= high, else low or high         s = amax / bound, the size of a step

The gradient of a step size is a sum over many values, so it would outgrow the gradients of weights; it is multiplied
by `g = 1 / sqrt(N * high)`, N being the number of weights, or of values that one image has. What is trained here is
`amax = bound * s`. Its gradient is `bound * g * dL/ds`, by which a step of gradient descent moves `s` exactly as if `s`
were the parameter.

Source: S. K. Esser et al. 2019, "Learned Step Size Quantization" (arXiv 1902.08153), equations 3 to 5 and section 2.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qzoo.quant.backward import is_last_use, is_plain, pass_between
from qzoo.quant.fake_quant import SMALLEST_AMAX, Grid, fake_quantize, quantization_scale
from qzoo.quant.grouped import along_weight
from qzoo.quant.pieces import PIECE, in_pieces, pieces

SMALLEST_LEARNED = 2 * SMALLEST_AMAX
"""A range that is trained stays at least this large: a smaller one would hold nothing, for good."""
WORTH_PIECES = 1 << 19
"""From this many values on, the many steps of a backward pass are faster piece by piece."""


def learned_fake_quantize(x: Tensor, amax: Tensor, on: Grid, count: int, *, kept: bool = False) -> Tensor:
    """Returns what `fake_quantize` returns, bit for bit; the gradients are those of LSQ.

    Args:
        x: any shape, float32, float16 or bfloat16; not changed. The arithmetic is float32.
        amax: float32, positive; broadcasts against `x`, or has a dimension more, see `quant.grouped`.
        on: an integer grid.
        count: how many values share one range: N of the formula.
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
    return _LearnedStep.apply(x, along_weight(amax, x), on, gradient_scale(on, count), kept)  # type: ignore[no-any-return]


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
    def forward(ctx: Any, x: Tensor, amax: Tensor, on: Grid, gain: float, kept: bool) -> Tensor:
        y = fake_quantize(x.detach(), amax.detach(), on)
        # Who saves a tensor forbids to write to it afterwards, which the float model might do.
        ctx.save_for_backward(x if kept else x.clone(), amax, y if kept else None)
        ctx.on, ctx.gain = on, gain
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, amax, y = ctx.saved_tensors
        scale = quantization_scale(amax, ctx.on)
        if y is not None and _serves_piecewise(grad, x, y, scale):
            of_x, of_step = _gradients_piecewise(
                grad, x, y, y if is_last_use(y) else torch.empty_like(y), scale, ctx.on
            )
        else:
            of_x, of_step = _gradients(grad, x, scale, ctx.on)
        return of_x, of_step * ctx.gain, None, None, None


def _gradients(grad: Tensor, x: Tensor, scale: Tensor, on: Grid) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `x` and of the step sizes; the latter float32, of the shape of `scale`."""
    v = x.float() * scale
    inside = pass_between(v, v, on.low, on.high)
    of_step = v.round().clamp_(on.low, on.high).sub_(inside)
    return pass_between(grad, v, on.low, on.high), (grad.float() * of_step).sum_to_size(scale.shape)


def _serves_piecewise(grad: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> bool:
    alike = grad.stride() == x.stride() == y.stride()
    return alike and is_plain(grad, x) and in_pieces(x, scale, WORTH_PIECES) and not torch.is_grad_enabled()


def _gradients_piecewise(
    grad: Tensor, x: Tensor, y: Tensor, of_x: Tensor, scale: Tensor, on: Grid
) -> tuple[Tensor, Tensor]:
    """Returns what `_gradients` returns, from the quantized values `y`; writes into `of_x`, which may be `y`."""
    low, high = _bounds(scale.item(), on)
    scratch, of_step = x.new_empty(PIECE), []
    for part_of_grad, part, quantized, target in zip(*map(pieces, (grad, x, y, of_x)), strict=True):
        inside = pass_between(part, part, low, high, into=scratch[: len(part)])
        of_step.append(torch.dot(part_of_grad, torch.sub(quantized, inside, out=inside)))
        pass_between(part_of_grad, part, low, high, into=target)
    return of_x, torch.stack(of_step).sum() * scale


def _bounds(scale: float, on: Grid) -> tuple[float, float]:
    """Returns the outermost x whose `x * scale` is within the grid, in float32 arithmetic."""
    with np.errstate(all="ignore"):  # a range that overflowed is told elsewhere
        return -_largest(-on.low, scale), _largest(on.high, scale)


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
