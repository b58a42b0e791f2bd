"""What stands in for modules of a unit while it is learned: soft weights, and batch norm in one step.

A weight is quantized where its quantizer is called, by a layer or by an operator of a block alike. So what is put in
the place of the quantizer serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from qzoo.optimization.reconstruction.learned_rounding import Sides, hard, soft


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
        self.scale: Tensor = scale
        self.shift: Tensor = shift if norm.bias is None else shift + norm.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x * scale + shift`; channels lie along the second axis."""
        shape = (-1, *(1,) * (x.dim() - 2))
        return (x * self.scale.view(shape)).add_(self.shift.view(shape))


def fixed_norms(model: nn.Module, paths: tuple[str, ...]) -> dict[str, nn.Module]:
    """Returns what stands in for the batch norms of modules, by path."""
    found: dict[str, nn.Module] = {}
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
