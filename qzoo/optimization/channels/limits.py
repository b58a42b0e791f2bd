"""How far channels may be scaled: those that ReLU6 clips not at all, the others while they stay below its ceiling.

`min(s x, 6) = s min(x, 6 / s)`: a channel that never reaches 6 may be scaled as long as it does not reach 6 then; one
that does keeps its scale. What a channel reaches is measured on images, or told from the statistics of batch norm,
whose output has the mean `beta` and the standard deviation `|gamma|`: four deviations above the mean, which one normal
value in 30,000 exceeds.

No channel is scaled past the largest of its tensor, clipped or not: what is gained in the weights would be lost in the
activation, whose range all channels share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import Group

DEVIATIONS = 4.0
"""From the mean of a channel to what it is taken to reach."""


class Bounds(NamedTuple):
    """What the channels of a group reach before what lies between source and readers, float32."""

    low: Tensor
    high: Tensor

    def divided_by(self, factors: Tensor) -> Bounds:
        """Returns what the channels reach after they were divided by factors above 0."""
        return Bounds(self.low / factors, self.high / factors)


class Limits(NamedTuple):
    """What the factors may be: readers are multiplied by them, the source is divided.

    Attributes:
        least: the smallest factor of each channel, at most 1.
        fixed: channels whose factor is 1.
    """

    least: Tensor
    fixed: Tensor

    def applied(self, factors: Tensor) -> Tensor:
        """Returns the factors as far as they are allowed."""
        return torch.where(self.fixed, 1.0, torch.maximum(factors, self.least))


def limits(group: Group, bounds: Bounds | None) -> Limits | None:
    """Returns what the factors of a group may be; None for anything.

    Example:
        >>> relu6 = Group("conv", 1, 3, 1, "conv.weight", 0, "bn", ceiling=6.0)
        >>> limits(relu6, Bounds(torch.zeros(3), torch.tensor([1.5, 7.0, -1.0]))).applied(torch.full((3,), 0.1))
        tensor([0.2500, 1.0000, 0.1000])
    """
    if bounds is None:
        return None
    reach = _reach(group, bounds)
    ceiling = torch.inf if group.ceiling is None else group.ceiling
    fixed, most = reach > ceiling, reach.clamp(max=ceiling).amax()
    return Limits(torch.where(fixed, 1.0, reach / most.clamp(min=torch.finfo(reach.dtype).tiny)), fixed)


def _reach(group: Group, bounds: Bounds) -> Tensor:
    is_positive = group.ceiling is not None or all("relu" in reader.between for reader in group.readers)
    return bounds.high.clamp(min=0) if is_positive else torch.maximum(bounds.high.abs(), bounds.low.abs())


def statistics(network: Network, norm: str | None) -> tuple[Tensor, Tensor] | None:
    """Returns mean and standard deviation of what a batch norm gives, by channel; None where nothing tells.

    The deviation is that of what it was given, `sqrt(running_var)`, times what it multiplies by.
    """
    module = None if norm is None else network.twin.get_submodule(norm)
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_var is None or module.bias is None:
        return None
    variance = module.running_var.float()
    return module.bias.detach().float(), module.weight.detach().float().abs() * (
        variance / (variance + module.eps)
    ).sqrt()


def told_bounds(network: Network, group: Group, deviations: float = DEVIATIONS) -> Bounds | None:
    """Returns what the channels of a group reach as batch norm tells; None where none is there."""
    told = statistics(network, group.norm)
    return None if told is None else Bounds(told[0] - deviations * told[1], told[0] + deviations * told[1])


def seen_bounds(network: Network, groups: Sequence[Group], batches: Iterable[Any]) -> dict[int, Bounds]:
    """Returns what the channels of groups reach on images, by the index of the group's evaluation."""
    found: dict[int, Bounds] = {}

    def noting(index: int, axis: int) -> Any:
        def note(func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
            channels = result.movedim(axis, 0).flatten(1).float()
            low, high = channels.amin(1), channels.amax(1)
            if index in found:
                low, high = torch.minimum(low, found[index].low), torch.maximum(high, found[index].high)
            found[index] = Bounds(low, high)

        return note

    network.observe(batches, {group.index: noting(group.index, group.channel_axis) for group in groups})
    return found
