"""What stands in for the quantizers of a unit while it is learned: soft weights, and activations left in float at times.

A weight is quantized where its quantizer is called, by a layer or by an operator of a block alike. So what is put in
the place of the quantizer serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
    """No weight is kept from call to call."""

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


@contextmanager
def dropping(quantizers: list[TensorQuantizer], probability: float, generator: torch.Generator) -> Iterator[None]:
    """While this lasts, each element that a quantizer is given stays as it is with a probability, drawn anew each time.

    Source: X. Wei et al. 2022, "QDrop" (arXiv 2203.05740), section 4.3.
    """

    def mix(quantizer: nn.Module, given: tuple[Tensor, ...], quantized: Tensor) -> Tensor:
        return mixed(quantized, given[0], probability, generator)

    hooks = [one.register_forward_hook(mix) for one in quantizers] if probability else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def mixed(x: Tensor, other: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Returns `x`, with each element of `other` in its place with a probability."""
    # With a weight of 0 or 1 it gives either of them to the bit, and is faster than `where`.
    return torch.lerp(x, other, drawn(x, probability, generator).to(x.dtype))


def drawn(like: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Returns which elements are drawn, each by itself; bool, of the shape of a tensor.

    Four are drawn at a time, since drawing costs as much as a convolution of few channels: a probability counts in
    steps of `2 ** -16`.

    Args:
        like: any.
        probability: from 0 to 1.
        generator: on the device of the tensor.

    Example:
        >>> drawn(torch.zeros(2), 1.0, torch.Generator())
        tensor([True, True])
    """
    bits = torch.empty((like.numel() + 3) // 4, dtype=torch.int64, device=like.device)
    bits.random_(-(2**63), None, generator=generator)
    values = bits.view(torch.int16)[: like.numel()].view(like.shape)
    last = round(probability * 2**16) - 2**15 - 1
    return values <= last
