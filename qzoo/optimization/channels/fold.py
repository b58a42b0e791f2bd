"""Folds batch norm into the layer before it, by value: the module stays, and multiplies by one.

    f = gamma / sqrt(var + eps)
    weight, bias of the layer *= f;    mean *= f, var *= f^2;    gamma = sqrt(var + eps), beta stays

So weights are what a runtime quantizes that folds first, while all that batch norm knows still holds: the mean of what
it gives is `beta`, the deviation `gamma`; and in training it does what it did. It multiplies by one to a unit in the
last place or two of float32 (2e-7): `gamma / sqrt(var + eps)` is computed anew in each pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from qzoo.models.tracing import OperatorCall
from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import layer_before
from qzoo.optimization.channels.scaling import factor_of, renorm
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.results.optimization import Change


def fold_batch_norm(
    model: nn.Module, record: ChannelFactors, batches: Iterable[Any] | None = None, example: Any = None
) -> list[Change]:
    """Folds each batch norm that a convolution or linear layer alone is read by, in place.

    The float function stays as it is. One without a layer of its own before it, as in a DenseNet, stays too.

    Args:
        model: quantized or float; its ranges are void afterwards.
        record: notes what weights were multiplied by.
        batches: inputs of the model, for an example; only the first is looked at.
        example: an input; default: of `batches`, else one of the likely size.

    Returns:
        A change for each batch norm; of one that stays, with the reason.

    Raises:
        UnsupportedError: the model can't be run on the example.

    Example:
        >>> net, record = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval(), ChannelFactors()
        >>> net[1].weight.data.fill_(3.0)
        tensor([3.])
        >>> fold_batch_norm(net, record)[0].path, record.weights["0.weight"].rows
        ('0 -> 1', tensor([3.0000]))
    """
    network = Network(model, batches, example)
    norms = [one for one in network.evaluations if one.op == "batch_norm" and one.is_activation]
    return [_folded(network, norm, record) for norm in norms]


def _folded(network: Network, norm: OperatorCall, record: ChannelFactors) -> Change:
    layer = layer_before(network, norm)
    if layer is None:
        return Change(path=norm.module, note="stays: no convolution or linear layer has it as its only reader")
    factors = factor_of(network, norm.module).float()
    key = network.weight_key(layer)
    assert key is not None
    record.multiply(key, network.tensors[key], rows=factors, axis=layer.reads["weight"].axis or 0)
    bias = network.vector(layer.module, "bias")
    if bias is not None:
        bias.copy_(bias.float() * factors)
    renorm(network, norm.module, factors, factors.new_ones(()))
    return Change(path=f"{layer.module} -> {norm.module}")
