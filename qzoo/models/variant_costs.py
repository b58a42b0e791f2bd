"""What a base and its variants cost, of their shapes alone: parameters, multiply-accumulates, bits, bytes.

A model on the meta device tells it: no weights are loaded, and no range has to be known.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from math import prod

import torch
from torch import nn

from qzoo.models.bases import meta_model
from qzoo.models.float_weights import FloatWeightsWarning
from qzoo.models.layer_costs import LayerCost, layer_costs
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import Survey, survey_of_base
from qzoo.quant.layers import channel_shape
from qzoo.results.facts import ModelSize, Need, VariantCosts
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.plan import Plan, PlannedQuantizer
from qzoo.schema.resolution.resolve import ResolvedVariant

FLOAT_BITS, FLOAT_BYTES = 32, 4


def costs_of_base(base: Base, variants: Iterable[ResolvedVariant]) -> tuple[ModelSize, dict[str, VariantCosts]]:
    """Returns what a float model comes to, and what each variant does, by its name in the recipe.

    Args:
        base: the float model; it is made on the meta device.
        variants: resolved, of that base.

    Raises:
        UnknownNameError: the library has no such architecture.
        RuleError: a rule does not fit the model.
        UnsupportedError: a variant speaks of operators, and the model can't be run to find them.

    Example:
        >>> from qzoo.zoo.name_lookup import find
        >>> variant = find("resnet8_digits_int8").resolved
        >>> size, costs = costs_of_base(variant.base, [variant])
        >>> size.parameters, costs["int8"].bits
        (75002, 8.0)
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FloatWeightsWarning)  # the figures say it
        model = meta_model(base)
        seen = survey_of_base(model)
        layers = layer_costs(model, seen)
        size = ModelSize(
            parameters=sum(one.numel() for one in model.parameters()),
            macs=sum(layer.macs for layer in layers.values()),
            bytes=FLOAT_BYTES * sum(one.numel() for one in model.state_dict().values() if one.is_floating_point()),
        )
        return size, {one.variant: _costs(model, seen, layers, size, one) for one in variants}


def _costs(
    model: nn.Module, seen: Survey, layers: dict[str, LayerCost], size: ModelSize, variant: ResolvedVariant
) -> VariantCosts:
    """Returns the costs of a variant.

    Its size is that of the float model, less 4 bytes for each weight that is quantized, plus the bits of that weight,
    4 bytes for each of its scales, and a byte for each zero point.
    """
    plan = plan_quantizers(model, variant, seen=seen)
    stored = {str(one.layer or one.module): one for one in plan.quantizers if one.of_weight}
    bits = {name: _bits(stored[name].spec) if name in stored else FLOAT_BITS for name in layers}
    weights = sum(layer.weights for layer in layers.values())
    saved = sum(layers[name].weights * (FLOAT_BITS - bits[name]) for name in layers)
    scales = sum(_scales(model, one) * (FLOAT_BYTES + one.spec.has_zero_point) for one in stored.values())
    on_integers = sum(layers[name].macs for name in layers if name in _integer_layers(plan))
    return VariantCosts(
        bits=round(FLOAT_BITS - saved / max(weights, 1), 4),
        bytes=size.bytes - saved // 8 + scales,
        integer_share=round(on_integers / max(size.macs, 1), 4),
        needs=sorted(set(_needs(plan))),
    )


def _bits(spec: QuantizerSpec) -> int:
    return spec.bits if spec.format == "int" else 8


def _scales(model: nn.Module, planned: PlannedQuantizer) -> int:
    if planned.spec.per != "channel":
        return 1
    if planned.functional is not None:
        return prod(planned.functional.weight.channel_shape)
    return prod(channel_shape(model.get_submodule(planned.module)))


def _integer_layers(plan: Plan) -> set[str]:
    """Returns the layers whose weight and input are both integers."""
    integer = [one for one in plan.quantizers if one.spec.format == "int"]
    weights = {str(one.layer or one.module) for one in integer if one.of_weight}
    return weights & {str(one.layer or one.module) for one in integer if one.kind == "input"}


def _needs(plan: Plan) -> Iterator[Need]:
    for one in plan.quantizers:
        if one.spec.format != "int":
            yield "fp8"
        if one.spec.unsigned is not False:
            yield "unsigned"
        if one.spec.has_zero_point:
            yield "weight_zero_points" if one.of_weight else "zero_points"
