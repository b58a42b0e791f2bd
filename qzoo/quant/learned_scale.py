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

import torch
from torch import Tensor, nn

from qzoo.quant.fake_quant import SMALLEST_AMAX, Grid, fake_quantize, quantization_scale
from qzoo.quant.gradient_mask import pass_between, pass_between_into
from qzoo.quant.pieces import in_pieces, pieces

SMALLEST_LEARNED = 2 * SMALLEST_AMAX
"""A range that is trained stays at least this large: a smaller one would hold nothing, for good."""
WORTH_PIECES = 1 << 19
"""From this many values on, the many steps of a backward pass are faster piece by piece."""


def learned_fake_quantize(x: Tensor, amax: Tensor, on: Grid, count: int, *, kept: bool = False) -> Tensor:
    """Returns what `fake_quantize` returns, bit for bit; the gradients are those of LSQ.

    Args:
        x: any shape, float32, float16 or bfloat16; not changed. The arithmetic is float32.
        amax: float32, positive; broadcasts against `x`.
        on: an integer grid.
        count: how many values share one range: N of the formula.
        kept: nobody writes to `x` before the backward pass, so that it need not be copied for it.

    Returns:
        Shape and dtype of `x`.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> amax = torch.tensor(1.0, requires_grad=True)
        >>> learned_fake_quantize(torch.tensor([0.3, 0.52, 2.0]), amax, grid(bits=2), count=3).sum().backward()
        >>> amax.grad  # (-0.3 + 0.48 + 1) / sqrt(3 * 1)
        tensor(0.6813)
    """
    return _LearnedStep.apply(x, amax, on, gradient_scale(on, count), kept)  # type: ignore[no-any-return]


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
        # Who saves a tensor forbids to write to it afterwards, which the float model might do.
        ctx.save_for_backward(x if kept else x.clone(), amax)
        ctx.on, ctx.gain = on, gain
        return fake_quantize(x.detach(), amax.detach(), on)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, amax = ctx.saved_tensors
        of_x, of_step = _gradients(grad, x, quantization_scale(amax, ctx.on), ctx.on)
        return of_x, of_step * ctx.gain, None, None, None


def _gradients(grad: Tensor, x: Tensor, scale: Tensor, on: Grid) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `x` and of the step sizes; the latter float32, of the shape of `scale`."""
    if in_pieces(x, scale, WORTH_PIECES) and grad.dtype == x.dtype and grad.stride() == x.stride():
        of_x = torch.empty_like(x)
        parts = zip(pieces(grad), pieces(x), pieces(of_x), strict=True)
        return of_x, torch.stack([_gradients_of_piece(*part, scale, on) for part in parts]).sum()
    v = x.float() * scale
    of_x = pass_between(grad, v, on.low, on.high)
    return of_x, (grad.float() * _of_step(v, on)).sum_to_size(scale.shape)


def _gradients_of_piece(grad: Tensor, x: Tensor, of_x: Tensor, scale: Tensor, on: Grid) -> Tensor:
    """Writes the gradient of a piece of `x` into `of_x`; returns the piece's share of the step size's."""
    v = x * scale
    pass_between_into(of_x, grad, v, on.low, on.high)
    return torch.dot(grad, _of_step(v, on))


def _of_step(v: Tensor, on: Grid) -> Tensor:
    """Returns the derivative of `y` by the step size: round(v) - v inside, what v is clamped to outside; uses up v."""
    inside = pass_between(v, v, on.low, on.high)
    return v.round_().clamp_(on.low, on.high).sub_(inside)


def keep_positive(parameter: nn.Parameter) -> None:
    """Puts a trained range that became too small, or negative, back to the smallest one, in place."""
    with torch.no_grad():
        parameter.clamp_(min=SMALLEST_LEARNED)
