"""Moving the ranges of activation channels into the weights that read them: what `smooth` and `norm_outputs` share.

Who makes the channels takes the factor: a norm in its weight and bias, or the layer before an activation in its rows.
All layers that read them share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.channels.equalize import uneven
from qzoo.optimization.channels.limits import Limits, limits, seen_bounds
from qzoo.optimization.channels.network import Network, named_operands
from qzoo.optimization.channels.pairs import Apart, Group, Reader, layer_groups, norm_groups
from qzoo.optimization.channels.probing import probed
from qzoo.optimization.channels.scaling import by_channel, scale
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.optimization import Change


class ReadWeight(NamedTuple):
    """The quantized weight of a reader, and the quantizer of what it reads; None where that stays in float."""

    weight: QuantizedWeight
    input: TensorQuantizer | None


def read_weights(model: nn.Module) -> dict[str, ReadWeight]:
    """Returns the quantized weights of a model by key of the state dict, each with the quantizer of its input."""
    found = {}
    for path, weight in quantized_weights(model).items():
        if weight.key is not None:
            owner, _, name = path.rpartition(".")
            beside = model.get_submodule(owner)._modules.get(name.replace("weight_quantizer", "input_quantizer"))
            found[weight.key] = ReadWeight(weight, beside if isinstance(beside, TensorQuantizer) else None)
    return found


def migratable(network: Network, quantized: dict[str, ReadWeight], *, norms_alone: bool) -> list[Group]:
    """Returns the groups whose activations are quantized, in the order of evaluation.

    Args:
        network: the model.
        quantized: its quantized weights.
        norms_alone: only norms that layers read as they are, with no activation between.
    """
    found = [one for one in norm_groups(network) if isinstance(one, Group)]
    if norms_alone:
        found = [one for one in found if not any(is_activation(reader) for reader in one.readers)]
    else:
        taken = {group.index for group in found}
        layers = [one for one in layer_groups(network) if isinstance(one, Group)]
        found += [one for one in layers if one.index not in taken and all(map(is_activation, one.readers))]
    wanted = [one for one in found if any(_is_quantized(quantized, reader) for reader in one.readers)]
    kept = [one for one in probed(network, wanted) if not isinstance(one, Apart)]
    return sorted(kept, key=lambda group: group.index)


def is_activation(reader: Reader) -> bool:
    """Whether an activation stands before a reader."""
    return bool({"relu", "hardtanh", "relu6", "leaky_relu", "prelu"} & set(reader.between))


def _is_quantized(quantized: dict[str, ReadWeight], reader: Reader) -> bool:
    return reader.key in quantized and quantized[reader.key].input is not None


def channel_ends(network: Network, groups: Sequence[Group], batches: Iterable[Any]) -> dict[int, tuple[Tensor, Tensor]]:
    """Returns the smallest and the largest value of each input of each reader, float32 `(inputs,)`, by its index."""
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def noting(reader: Reader) -> Any:
        def note(func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
            _, x = named_operands(func, args, kwargs)[reader.given]
            low, high = (end.float() for end in x.detach().movedim(reader.channel_axis, 0).flatten(1).aminmax(dim=1))
            before = found.get(reader.index, (low, high))
            found[reader.index] = torch.minimum(before[0], low), torch.maximum(before[1], high)

        return note

    network.observe(batches, {reader.index: noting(reader) for group in groups for reader in group.readers})
    return found


def channel_reach(groups: Sequence[Group], ends: Mapping[int, tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Returns the largest absolute value of each channel that the readers of each group saw, float32 `(channels,)`."""
    largest = {index: torch.maximum(low.abs(), high.abs()) for index, (low, high) in ends.items()}
    return [
        torch.stack([by_channel(one, largest[one.index], group.channels) for one in group.readers]).amax(0)
        for group in groups
    ]


def clipping_limits(network: Network, groups: Sequence[Group], batches: Iterable[Any]) -> list[Limits | None]:
    """Returns what the factors of groups may be that ReLU6 clips, as the images tell; None for all others."""
    clipped = [group for group in groups if group.ceiling is not None]
    seen = seen_bounds(network, clipped, batches) if clipped else {}
    return [limits(group, seen.get(group.index)) for group in groups]


def migrate(
    network: Network, group: Group, reach: Tensor, factors: Tensor, limit: Limits | None, record: ChannelFactors
) -> Change:
    """Divides the channels of a group by factors, in place; returns how uneven they were, and are.

    Args:
        network: whose tensors change.
        group: of it.
        reach: the largest absolute value of each channel.
        factors: above 0; those of channels that are always 0 become 1.
        limit: what they may be.
        record: notes what weights were multiplied by.
    """
    factors = torch.where((reach > 0) & torch.isfinite(factors) & (factors > 0), factors, 1.0)
    factors = factors if limit is None else limit.applied(factors)
    scale(network, group, factors, record)
    return Change(path=group.path, before=uneven(reach), after=uneven(reach / factors))
