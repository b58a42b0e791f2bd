"""Quantization that is left out of single elements while a unit is learned, so that it suits more than it has seen.

    y  = x where an element is left out, else what the quantizer makes of it
    dx = dy where it is left out or inside the range, else 0
    da = (sum(dy * y) - sum(dx * x)) / amax              the gradient of the range, LSQ's, see `quant.learned_scale`

LSQ gives a step `s` the gradient `round(v) - v` inside the range and its end outside; with `v = x / s` that is
`(y - x) / s` and `y / s`, and nothing for what is left out: three cases, of which both sums hold all.

Source: X. Wei et al. 2022, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization"
(arXiv 2203.05740), section 4.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.backward import pass_between
from qzoo.quant.fake_quant import Grid, fake_quantize, grid_ends
from qzoo.quant.pieces import in_memory_order
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.zero_point import on_grid

POOL = 1 << 22
"""Elements that are drawn at once, at least."""


class Drop:
    """Draws which elements of a tensor are left out, each with one probability.

    Drawing for each element takes as long as a convolution of few channels. So it is done once, for more elements than
    a tensor has, and what is drawn is read from another place each time.

    Args:
        probability: from 0 to 1, in steps of `2 ** -16`.
        generator: on the device of the tensors.

    Example:
        >>> Drop(1.0, torch.Generator()).drawn(torch.zeros(2))
        tensor([1., 1.])
    """

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        self.probability, self._generator = probability, generator
        # On the CPU, so that no step waits for an accelerator to say where it reads.
        self._places = torch.Generator().manual_seed(generator.initial_seed())
        self._pools: dict[torch.dtype, Tensor] = {}

    def mixed(self, x: Tensor, other: Tensor) -> Tensor:
        """Returns `x`, with elements of `other` where those of `x` are left out; written into `x`."""
        # With a weight of 0 or 1 it gives either of them to the bit, and faster than `where`.
        return x.lerp_(other, self.drawn(x)) if self.probability else x

    def drawn(self, like: Tensor) -> Tensor:
        """Returns 1 for what is left out of a tensor, else 0, in its shape and dtype."""
        size, pool = like.numel(), self._pools.get(like.dtype)
        if pool is None or len(pool) < 2 * size:
            pool = self._pools[like.dtype] = self._draw(max(4 * size, POOL), like.device).to(like.dtype)
        start = int(torch.randint(len(pool) - size, (), generator=self._places))
        return pool[start : start + size].as_strided(like.shape, like.stride())

    def _draw(self, size: int, device: torch.device) -> Tensor:
        bits = torch.empty(size // 4, dtype=torch.int64, device=device)
        bits.random_(-(2**63), None, generator=self._generator)
        last = round(self.probability * 2**16) - 2**15 - 1
        return bits.view(torch.int16) <= last


class DroppedQuantizer(nn.Module):
    """Stands in for the quantizer of an activation: elements that are left out stay as they are.

    Args:
        quantizer: has a range, be it learned.
        drop: what is left out.
    """

    state = "quantizing"

    def __init__(self, quantizer: TensorQuantizer, drop: Drop) -> None:
        super().__init__()
        self.quantizer, self._drop = quantizer, drop

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mixture; shape and dtype of `x`."""
        if not self._drop.probability:
            return self.quantizer(x)  # type: ignore[no-any-return]
        one = self.quantizer
        zero = None if one.zero_point is None else on_grid(one.zero_point.detach(), one.grid)
        return _Dropped.apply(x, one.amax, one.grid, zero, self._drop.drawn(x), one.kept)  # type: ignore[no-any-return]


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, amax: Tensor, on: Grid, zero: Tensor | None, left_out: Tensor, kept: bool
    ) -> Tensor:
        y = fake_quantize(x.detach(), amax.detach(), on, zero).lerp_(x.detach(), left_out)
        ctx.save_for_backward(*((x, y) if kept else (x.clone(), y.clone())), amax, left_out)
        ctx.bound, ctx.ends = on.bound, grid_ends(on, zero)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, amax, left_out = ctx.saved_tensors
        step, (low, high) = amax.detach() / ctx.bound, ctx.ends
        # What is left out is inside the range, wherever that ends.
        inside = torch.addcmul(x, x, left_out, value=-1)
        of_x = pass_between(grad, inside, low * step, high * step, into=inside)
        of_range = (_dot(grad, y) - _dot(of_x, x)) / amax if ctx.needs_input_grad[1] else None
        return of_x, of_range, None, None, None, None


def _dot(one: Tensor, other: Tensor) -> Tensor:
    if one.stride() == other.stride():
        one, other = in_memory_order(one), in_memory_order(other)
    return torch.dot(one.flatten().float(), other.flatten().float())
