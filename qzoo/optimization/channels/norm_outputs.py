"""Gives all channels that a norm makes one range (RepQ-ViT, arXiv 2212.08254, section 3.2): its scales, no offsets.

    r_j = max|X_j| / mean over j of max|X_j|;    weight, bias of the norm / r;    column j of each reader * r_j

A range for each channel, which no runtime has for activations, becomes one for the whole tensor: what differs between
channels lies in the weights of the readers then, whose range is one for each output channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from qzoo.optimization.channels.migrating import channel_ends, channel_reach, migratable, migrate, read_weights
from qzoo.optimization.channels.network import Network
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.results.optimization import Change


def equalize_norm_outputs(model: nn.Module, batches: Iterable[Any], record: ChannelFactors) -> list[Change]:
    """Gives the channels of each norm that quantized layers read one range, in place; the float function stays.

    Args:
        model: quantized; its ranges are void afterwards.
        batches: inputs of the model, which can be iterated again.
        record: notes what weights were multiplied by.

    Returns:
        A change for each norm, with the ratio of the largest range of a channel to the median one before and after.

    Raises:
        UnsupportedError: the model can't be run on the images.
        CalibrationError: there is no image.

    Example:
        >>> import torch
        >>> from qzoo.zoo.create import quantize
        >>> net = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)).eval()
        >>> net[0].weight.data[0] = 8.0
        >>> x = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
        >>> [change] = equalize_norm_outputs(quantize(net, "int8"), [x], ChannelFactors())
        >>> change.path, round(change.before), round(change.after)
        ('0 -> 1', 8, 1)
    """
    network = Network(model, batches)
    groups = migratable(network, read_weights(model), norms_alone=True)
    reaches = channel_reach(groups, channel_ends(network, groups, batches))
    return [
        migrate(network, group, reach, reach / reach[reach > 0].mean(), None, record)
        for group, reach in zip(groups, reaches, strict=True)
    ]
