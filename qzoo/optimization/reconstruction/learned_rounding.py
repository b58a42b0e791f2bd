"""The arithmetic of learned rounding: each weight goes down or up to one of the two values of its grid around it.

    v       = w * scale                                    w in steps of the grid
    h(a)    = clip(1.2 * sigmoid(a) - 0.1, 0, 1)           how far up; `a` is what is learned
    w_soft  = clip(floor(v) + h, low, high) / scale
    w_hard  = the same with h = 1 where h >= 0.5, else 0
    R       = sum(1 - |2h - 1| ** beta)                    0 where every h is 0 or 1

It starts with `h = v - floor(v)`, where `w_soft` is the weight itself, as far as the grid reaches. `beta` falls while
it is learned: at first only values of `h` near 0 and 1 are drawn there, in the end all.

Source: M. Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568),
equations 21 to 24.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.fake_quant import Grid, grid_ends, quantization_scale
from qzoo.quant.grouped import along_weight

LOW, HIGH = -0.1, 1.1
"""What the sigmoid is stretched to before it is clipped: so `h` reaches 0 and 1, where its gradient ends."""
FIXED = -20.0
"""An `a` so low that it never moves: of weights that the grid has one value for."""


class Sides(NamedTuple):
    """The two values between which each weight of a tensor is: `lower / divisor` and `(lower + 1) / divisor`.

    Attributes:
        lower: float32, shape of the weight, whole numbers of the grid.
        divisor: float32, broadcasts against the weight.
        start: the `a` that makes the weight of them; float32. `FIXED` where the weight lies beyond the grid, whose
            only value for it is `lower` then.
    """

    lower: Tensor
    divisor: Tensor
    start: Tensor

    def at(self, h: Tensor) -> Tensor:
        """Returns the weights that are so far up; `h` float32, from 0 to 1."""
        return (self.lower + h).div_(self.divisor)

    def nearest(self) -> Tensor:
        """Returns which weights are nearer to the upper value; float32, 0 or 1."""
        return hard(self.start)


def sides(weight: Tensor, amax: Tensor, on: Grid, zero_point: Tensor | None = None) -> Sides:
    """Returns between which values of its grid each weight lies.

    Args:
        weight: float, any shape.
        amax: its range: per tensor, per channel, or per channel of groups.
        on: an integer grid.
        zero_point: its zero point, from which `lower` is counted; None: 0.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> found = sides(torch.tensor([0.25, 0.52, 9.0]), torch.tensor(0.7), grid(bits=4))
        >>> found.lower, found.at(up(found.start))
        (tensor([2., 5., 7.]), tensor([0.2500, 0.5200, 0.7000]))
    """
    scale = quantization_scale(along_weight(amax, weight), on)
    low, high = grid_ends(on, None if zero_point is None else along_weight(zero_point, weight))
    v = weight.detach().float() * scale
    floor = v.floor()
    free = (floor >= low) & (floor < high) & (scale > 0)
    start = torch.where(free, start_of(v - floor), FIXED)
    return Sides(floor.clamp_(low, high), torch.where(scale > 0, scale, 1.0), start)


def up(a: Tensor) -> Tensor:
    """Returns `h`, how far up each weight is, from 0 to 1.

    Example:
        >>> up(torch.tensor([-9.0, 0.0, 9.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return _stretched(torch.sigmoid(a)).clamp_(0, 1)


def start_of(fraction: Tensor) -> Tensor:
    """Returns the `a` of which `up` makes a fraction.

    Example:
        >>> up(start_of(torch.tensor([0.25, 0.75])))
        tensor([0.2500, 0.7500])
    """
    return torch.logit((fraction - LOW) / (HIGH - LOW))


def hard(a: Tensor) -> Tensor:
    """Returns which weights go up in the end: 1 or 0, float32."""
    return (up(a) >= 0.5).float()


def regularizer(a: Tensor, beta: float) -> Tensor:
    """Returns `R`: how undecided all weights are together; a number.

    Example:
        >>> regularizer(torch.tensor([-9.0, 0.0]), beta=2.0)
        tensor(1.)
    """
    return (1 - (2 * up(a) - 1).abs() ** beta).sum()


def beta_at(step: int, steps: int, warmup: float, beta: tuple[float, float]) -> float | None:
    """Returns the exponent of the regularizer at a step, linear from the first to the second; None in the warmup.

    Example:
        >>> [beta_at(step, 10, 0.2, (20.0, 2.0)) for step in (1, 2, 6)]
        [None, 20.0, 11.0]
    """
    first = warmup * steps
    return None if step < first else beta[0] + (beta[1] - beta[0]) * (step - first) / (steps - first)


def soft(a: Tensor, lower: Tensor, divisor: Tensor, weight: float = 0.0, beta: float = 2.0) -> Tensor:
    """Returns the weights that are so far up, with the gradient of the regularizer thrown in.

    Args:
        a: what is learned; float32, shape of the weight.
        lower: see `Sides`.
        divisor: see `Sides`.
        weight: that of the regularizer: the gradient of `a` is that of the loss, plus `weight * dR/da`. So it costs no
            pass of its own.
        beta: its exponent, at least 1.

    Returns:
        float32, shape of the weight.
    """
    return _Soft.apply(a, lower, divisor, weight, beta)  # type: ignore[no-any-return]


def _stretched(sigmoid: Tensor) -> Tensor:
    return sigmoid.mul(HIGH - LOW).add_(LOW)


class _Soft(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, lower: Tensor, divisor: Tensor, weight: float, beta: float) -> Tensor:
        sigmoid = torch.sigmoid(a)
        ctx.save_for_backward(sigmoid, divisor)
        ctx.weight, ctx.beta = weight, beta
        return _stretched(sigmoid).clamp_(0, 1).add_(lower).div_(divisor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sigmoid, divisor = ctx.saved_tensors
        h, of_h = _stretched(sigmoid), grad / divisor
        # dh/da = 1.2 s (1 - s), and 0 where it was clipped
        slope = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1).mul_(HIGH - LOW)
        clipped = (h < 0) | (h > 1)
        if ctx.weight:
            of_h.add_(_regularizer_gradient(h, ctx.beta), alpha=ctx.weight)
        return of_h.mul_(slope).masked_fill_(clipped, 0), None, None, None, None


def _regularizer_gradient(h: Tensor, beta: float) -> Tensor:
    """Returns `dR/dh = -2 beta |2h - 1| ** (beta - 1) sign(2h - 1)`; writes to `h`."""
    centred = h.mul_(2).sub_(1)
    return centred.abs().pow_(beta - 1).copysign_(centred).mul_(-2 * beta)
