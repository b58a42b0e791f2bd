"""What stands in for modules of a unit while it is learned: soft weights, mixed activations, batch norm in one step.

A weight is quantized where its quantizer is called, by a layer or by an operator of a block alike. So what is put in
the place of the quantizer serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.learned_rounding import Sides, hard, soft
from qzoo.quant.quantizer import TensorQuantizer


class SoftRounding(nn.Module):
    """Stands in for the quantizer of a weight: gives the weight between the values of its grid, as far up as learned.

    Args:
        sides: of the weight.

    Attributes:
        a: what is learned, see `learned_rounding`; float32, shape of the weight.
        weight: that of the regularizer at present.
        beta: the exponent of the regularizer at present.
    """

    state = "learning"
    """So that no weight is kept from call to call."""

    def __init__(self, sides: Sides) -> None:
        super().__init__()
        self.sides = sides
        self.a = nn.Parameter(sides.start.clone())
        self.weight, self.beta = 0.0, 2.0

    def forward(self, x: Tensor) -> Tensor:
        """Returns the soft weight, in the dtype of `x`, which is the float weight."""
        return soft(self.a, self.sides.lower, self.sides.divisor, self.weight, self.beta).to(x.dtype)

    def rounded(self) -> Tensor:
        """Returns the weight as it is rounded in the end; float32."""
        return self.sides.at(hard(self.a.detach()))


class FixedNorm(nn.Module):
    """Stands in for batch norm in evaluation mode, whose parameters don't learn: one factor and one term a channel."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        shift = -norm.running_mean * scale
        self.scale, self.shift = scale, shift if norm.bias is None else shift + norm.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x * scale + shift`; channels lie along the second axis."""
        shape = (-1, *(1,) * (x.dim() - 2))
        return (x * self.scale.view(shape)).add_(self.shift.view(shape))


def fixed_norms(model: nn.Module, paths: tuple[str, ...]) -> dict[str, nn.Module]:
    """Returns what stands in for the batch norms of modules, by path."""
    found = {}
    for path in paths:
        for name, module in model.get_submodule(path).named_modules(prefix=path):
            # One of a class of its own may do more.
            if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) and module.running_var is not None:
                found[name] = FixedNorm(module)
    return found


@contextmanager
def standing_in(model: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Puts modules at paths of a model, in place; when the block ends, those that were there are there again."""
    before = {path: model.get_submodule(path) for path in modules}
    try:
        _put(model, modules)
        yield
    finally:
        _put(model, before)


def _put(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for path, module in modules.items():
        owner, _, name = path.rpartition(".")
        model.get_submodule(owner)._modules[name] = module


class Drop:
    """Leaves elements of a tensor out, each with one probability.

    Drawing for each element takes as long as a convolution of few channels. So what is left out is drawn once, for
    more elements than a tensor has, and read from another place each time.

    Args:
        probability: from 0 to 1, in steps of `2 ** -16`.
        generator: on the device of the tensors.

    Source: X. Wei et al. 2022, "QDrop" (arXiv 2203.05740), section 4.3.
    """

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        self.probability, self._generator = probability, generator
        self._pool = torch.empty(0, dtype=torch.bool)

    def mixed(self, x: Tensor, other: Tensor) -> Tensor:
        """Returns `x`, with elements of `other` where those of `x` are left out; shape and dtype of both."""
        if not self.probability:
            return x
        return _Mixed.apply(x, other, self.drawn(x).to(x.dtype))  # type: ignore[no-any-return]

    def drawn(self, like: Tensor) -> Tensor:
        """Returns which elements of a tensor are left out; bool, of its shape.

        Example:
            >>> Drop(1.0, torch.Generator()).drawn(torch.zeros(2))
            tensor([True, True])
        """
        size = like.numel()
        if len(self._pool) < 2 * size:
            self._pool = self._draw(max(4 * size, POOL), like.device)
        start = torch.randint(len(self._pool) - size, (), generator=self._generator, device=self._generator.device)
        return self._pool[int(start) :][:size].view(like.shape)

    def _draw(self, size: int, device: torch.device) -> Tensor:
        bits = torch.empty(size // 4, dtype=torch.int64, device=device)
        bits.random_(-(2**63), None, generator=self._generator)
        last = round(self.probability * 2**16) - 2**15 - 1
        return bits.view(torch.int16) <= last


POOL = 1 << 22
"""Elements that are drawn at once, at least."""


@contextmanager
def dropping(quantizers: list[TensorQuantizer], drop: Drop) -> Iterator[None]:
    """While this lasts, elements that quantizers are given stay as they are where they are left out."""

    def mix(quantizer: nn.Module, given: tuple[Tensor, ...], quantized: Tensor) -> Tensor:
        return drop.mixed(quantized, given[0])

    hooks = [one.register_forward_hook(mix) for one in quantizers] if drop.probability else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor, left_out: Tensor) -> Tensor:
        ctx.save_for_backward(left_out)
        # A weight of 0 or 1 gives either of them to the bit, and faster than `where`.
        return torch.lerp(x, other, left_out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (left_out,) = ctx.saved_tensors
        of_other = grad * left_out
        return grad - of_other, of_other if ctx.needs_input_grad[1] else None, None
