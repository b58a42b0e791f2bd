"""Scaling the channels of a group: the source is divided by factors, all readers are multiplied by them, in place."""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import Group, Reader
from qzoo.quant.channel_factors import ChannelFactors


def scale(network: Network, group: Group, factors: Tensor, record: ChannelFactors) -> None:
    """Divides what a group's source makes by factors and multiplies its readers by them, in place.

    A batch norm after the source still multiplies by what it did: its mean and its bias are divided too, and its
    variance is that of what it is given now, so that its statistics hold in training as well.

    Args:
        network: whose tensors change.
        group: of it.
        factors: float32, above 0, one for each channel.
        record: notes what weights were multiplied by.
    """
    inverse = 1 / factors
    if group.key is None:
        _multiply(network, group.source, ("weight", "bias"), inverse)
    else:
        record.multiply(group.key, network.tensors[group.key], rows=inverse, axis=group.axis)
        _multiply(network, group.source, ("bias",), inverse)
        if group.norm is not None:
            renorm(network, group.norm, inverse)
            _multiply(network, group.norm, ("bias",), inverse)
    for reader in group.readers:
        columns = by_input(reader, factors)
        record.multiply(reader.key, network.tensors[reader.key], columns=columns, axis=reader.axis)


def by_input(reader: Reader, channels: Tensor) -> Tensor:
    """Returns a value for each input of a reader: of a flattened image, each channel's for all of its places."""
    return channels.repeat_interleave(reader.inputs // len(channels))


def by_channel(reader: Reader, inputs: Tensor, channels: int) -> Tensor:
    """Returns the largest value of each channel among the inputs of a reader."""
    return inputs.reshape(channels, -1).amax(1)


def renorm(network: Network, norm: str, rows: Tensor, multiplies_by: Tensor | None = None) -> None:
    """Lets a batch norm take a scaled input, in place.

        y = (x - mean) * f + bias,    f = weight / sqrt(var + eps)

    Scaled rows give it `rows * x`, of mean `rows * mean` and variance `rows^2 * var`; its weight becomes
    `f * sqrt(rows^2 * var + eps)`, so that it multiplies by `f` again, to a unit in the last place or two of float32.

    Args:
        network: whose tensors change.
        norm: path of the batch norm.
        rows: float32, what each channel of its input was multiplied by.
        multiplies_by: another `f`; default: what it is. One that has no weight keeps its variance instead.
    """
    module = network.twin.get_submodule(norm)
    mean, variance, weight = (network.vector(norm, name) for name in ("running_mean", "running_var", "weight"))
    assert mean is not None
    assert variance is not None
    eps = float(module.eps)  # type: ignore[arg-type]
    wanted = factor_of(network, norm) if multiplies_by is None else multiplies_by.to(_wide(variance))
    mean.mul_(rows.to(_wide(mean)))
    if weight is not None:
        variance.copy_(variance.to(_wide(variance)) * rows.to(_wide(variance)) ** 2)
        weight.copy_(wanted * (variance.to(_wide(variance)) + eps).sqrt())
    elif multiplies_by is not None:
        variance.copy_(wanted**-2 - eps)


def factor_of(network: Network, norm: str) -> Tensor:
    """Returns what a batch norm multiplies each channel by, `weight / sqrt(var + eps)`, at least in float32."""
    variance, weight = network.vector(norm, "running_var"), network.vector(norm, "weight")
    assert variance is not None
    eps = float(network.twin.get_submodule(norm).eps)  # type: ignore[arg-type]
    inverse = 1 / (variance.to(_wide(variance)) + eps).sqrt()
    return inverse if weight is None else weight.to(inverse) * inverse


def _multiply(network: Network, module: str, names: tuple[str, ...], factors: Tensor) -> None:
    for name in names:
        vector = network.vector(module, name)
        if vector is not None:
            vector.copy_(vector.to(_wide(vector)) * factors)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
