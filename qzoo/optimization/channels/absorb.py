"""Absorbs high biases: what is always positive behind a ReLU moves into the bias of the next layer (arXiv 1906.04721).

    relu(x) = relu(x - c) + c  where x >= c;    so    W2 relu(x) + b2 = W2 relu(x - c) + (b2 + W2 c)

The range of the activation shrinks by `c`. With images, `c` is the smallest value that a channel had on them, if above
0, and the function is the same on them. Without, it is `beta - 3 |gamma|` of batch norm, as in the paper: one normal
value in 740 lies below, and is changed. A layer that pads its input sees zeros where no `c` was taken away, so nothing
is absorbed there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qzoo.optimization.channels.limits import Bounds, statistics
from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import SAME, Group, Reader, layer_before
from qzoo.optimization.channels.scaling import by_input, factor_of
from qzoo.quant.channel_factors import along_axis

DEVIATIONS = 3.0
PASSED = SAME | {"relu", "hardtanh", "relu6", "leaky_relu", "prelu", "flatten", "adaptive_avg_pool2d"}
"""What lets a constant pass that is taken from values above it."""


def absorb(network: Network, group: Group, seen: Bounds | None) -> str:
    """Moves what is always positive from the source of a group to its readers, in place; returns what it did.

    Args:
        network: whose vectors change.
        group: of it.
        seen: what its channels reach on images, if some were shown.
    """
    constant = _constant(network, group, seen)
    if constant is None or not bool((constant > 0).any()) or not _passes(network, group):
        return ""
    _subtract(network, group, constant)
    for reader in group.readers:
        _add(network, reader, constant)
    exact = "" if seen is not None else ", as far as batch norm tells"
    return f"the biases of {int((constant > 0).sum())} channels are absorbed{exact}"


def _constant(network: Network, group: Group, seen: Bounds | None) -> Tensor | None:
    told = statistics(network, group.norm)
    if seen is None and told is None:
        return None
    constant = seen.low if seen is not None else told[0] - DEVIATIONS * told[1]  # type: ignore[index]
    high = seen.high if seen is not None else told[0] + (DEVIATIONS + 1) * told[1]  # type: ignore[index]
    ceiling = torch.inf if group.ceiling is None else group.ceiling
    return torch.where(high <= ceiling, constant.clamp(min=0), 0.0)


def _passes(network: Network, group: Group) -> bool:
    has_bias = network.vector(group.source, "bias") is not None or group.norm is not None
    return has_bias and all(_takes(network, reader) for reader in group.readers)


def _takes(network: Network, reader: Reader) -> bool:
    """Whether a constant can be taken from all that a reader sees, and given to its bias."""
    evaluation = network.evaluations[reader.index]
    layer = network.module(evaluation)
    if not set(reader.between) <= PASSED or reader.key != f"{evaluation.module}.weight".lstrip("."):
        return False
    if isinstance(layer, nn.Linear):
        unpadded = True
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        unpadded = layer.padding == "valid" or not any(layer.padding)
    else:
        unpadded = False
    return unpadded and (layer.bias is not None or _norm_after(network, reader) is not None)


def _subtract(network: Network, group: Group, constant: Tensor) -> None:
    """Takes a constant from what the source of a group gives."""
    owner = group.source if group.norm is None else group.norm
    bias = network.vector(owner, "bias")
    if bias is not None:
        bias.copy_(bias.float() - constant)
    elif group.norm is not None:
        mean = network.tensors[f"{group.norm}.running_mean".lstrip(".")]
        mean.copy_(mean.float() + constant / factor_of(network, group.norm))


def _add(network: Network, reader: Reader, constant: Tensor) -> None:
    """Gives back to a reader what a constant in its input made of its output."""
    kernels = network.tensors[reader.key].double()
    kernels = kernels.flatten(2).sum(2) if kernels.dim() > 2 else kernels
    inputs = along_axis(by_input(reader, constant).double(), 1 - reader.axis, kernels.shape)
    moved = (kernels * inputs).sum(1 - reader.axis)
    norm = _norm_after(network, reader)
    if norm is not None:
        mean = network.tensors[f"{norm}.running_mean".lstrip(".")]
        mean.copy_(mean.double() - moved)
        return
    bias = network.vector(network.evaluations[reader.index].module, "bias")
    assert bias is not None
    bias.copy_(bias.double() + moved)


def _norm_after(network: Network, reader: Reader) -> str | None:
    """Returns the batch norm that alone reads a layer: its mean takes what the layer's bias would."""
    evaluation = network.evaluations[reader.index]
    norms = [one.module for one in network.readers(reader.index) if layer_before(network, one) is evaluation]
    return norms[0] if norms else None
