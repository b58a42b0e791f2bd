"""What each candidate of a group costs: bits of a weight, share of the float model's size, of its work in float.

Every cost adds up over groups, with a rest that no choice changes, so that an integer programme can be made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.models.layer_costs import LayerCost
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.searching.groups import Group

FLOAT_BITS = 32
"""The bits of a value in float, and of a scale."""
Costs = dict[str, dict[str, float]]
"""By cost, then by candidate: the part of the model's."""


@dataclass(frozen=True)
class CostTable:
    """Costs of all groups.

    Attributes:
        by_cost: by cost, by group, then by candidate.
        rest: by cost, what is in no group.
        layers: by group, the names of its layers with weights.
        known: by layer, its weights and multiply-accumulates.
    """

    by_cost: dict[str, dict[str, dict[str, float]]]
    rest: dict[str, float]
    layers: dict[str, list[str]]
    known: Mapping[str, LayerCost]


def cost_table(
    model: nn.Module, groups: Sequence[Group], names: Sequence[str], candidates: Mapping[str, nn.Module],
    layers: Mapping[str, LayerCost],
) -> CostTable:  # fmt: skip
    """Returns the costs `bits`, `size` and `macs_float` of every candidate of every group.

    `bits` is the average over all weights of layers, `sum(weights * bits) / sum(weights)`. `size` is storage in shares
    of the float model's: weights at their bits and 32 bits for each scale, all else at 32 bits. `macs_float` is the
    share of multiply-accumulates of which the weight or the input is in float.

    Args:
        model: the float model.
        groups: those of a quantized copy.
        names: those of the candidates.
        candidates: by name, a quantized copy as that candidate has it; of `float` there is none.
        layers: what each layer with a weight costs, see `qzoo.models.layer_costs`.

    Raises:
        UnsupportedError: no group has a weight.
    """
    own = {group.name: _layers_of(group, layers) for group in groups}
    totals = _Totals(
        weights=sum(one.weights for one in layers.values()),
        macs=sum(one.macs for one in layers.values()),
        values=sum(parameter.numel() for parameter in model.parameters()),
    )
    if not any(own.values()):
        raise UnsupportedError("No group of layers has a weight, so there is nothing to choose.")
    found = {name: quantizers(one) for name, one in candidates.items()}
    table = {
        group.name: _costs(group, [layers[name] for name in own[group.name]], names, found, totals) for group in groups
    }
    rest = _rest({name for of_group in own.values() for name in of_group}, layers, next(iter(found.values())), totals)
    by_cost = {cost: {group: of_group[cost] for group, of_group in table.items()} for cost in rest}
    return CostTable(by_cost, rest, own, layers)


@dataclass(frozen=True)
class _Totals:
    """Of the whole model: values of layers' weights, multiply-accumulates, and values of all parameters."""

    weights: int
    macs: int
    values: int


def _layers_of(group: Group, layers: Mapping[str, LayerCost]) -> list[str]:
    return [member.name for member in group.members if member.name in layers]


def _costs(
    group: Group, layers: Sequence[LayerCost], names: Sequence[str],
    found: Mapping[str, Mapping[str, TensorQuantizer]], totals: _Totals,
) -> Costs:  # fmt: skip
    weights, macs = sum(one.weights for one in layers), sum(one.macs for one in layers)
    costs: Costs = {"bits": {}, "size": {}, "macs_float": {}}
    for name in names:
        own = {} if name == FLOAT else {path: found[name][path] for path in group.paths if path in found[name]}
        bits, scales = _stored(own)
        costs["bits"][name] = weights * bits / totals.weights
        costs["size"][name] = (weights * bits + FLOAT_BITS * scales) / (FLOAT_BITS * totals.values)
        costs["macs_float"][name] = 0.0 if _on_integers(own) else macs / max(totals.macs, 1)
    return costs


def _stored(own: Mapping[str, TensorQuantizer]) -> tuple[int, int]:
    """Returns the bits of a weight, and how many scales stand beside the weights."""
    of_weights = [one for path, one in own.items() if is_of_weight(path)]
    bits = max((one.spec.bits for one in of_weights), default=FLOAT_BITS)
    return bits, sum(one.amax.numel() for one in of_weights)


def _on_integers(own: Mapping[str, TensorQuantizer]) -> bool:
    """Whether weights and inputs are quantized."""
    return {is_of_weight(path) for path in own} == {True, False}


def _rest(
    grouped: Collection[str], layers: Mapping[str, LayerCost], kept: Mapping[str, TensorQuantizer], totals: _Totals
) -> dict[str, float]:
    """Returns what is in no group: layers that stay as the variant has them, biases and norms."""
    bits = stored = macs = 0.0
    for name, layer in layers.items():
        if name not in grouped:
            own = {
                path: one for path, one in kept.items() if path.startswith(f"{name}.") or path.startswith(f"{name}_")
            }
            of_layer, scales = _stored(own)
            bits += layer.weights * of_layer
            stored += layer.weights * of_layer + FLOAT_BITS * scales
            macs += 0 if _on_integers(own) else layer.macs
    other = totals.values - totals.weights
    return {
        "bits": bits / totals.weights,
        "size": (stored + FLOAT_BITS * other) / (FLOAT_BITS * totals.values),
        "macs_float": macs / max(totals.macs, 1),
    }
