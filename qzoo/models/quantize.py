"""From a float model to a quantized one, in place: make the quantizers of a plan, derive classes; and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from qzoo.errors import RuleError
from qzoo.models.example import how_to_give_one
from qzoo.models.float_weights import warn_of_float
from qzoo.models.provenance import Provenance, mark_in_float, provenance, remember
from qzoo.models.select_layers import plan_quantizers, refuse_quantized
from qzoo.models.survey import Survey
from qzoo.quant.derived import copy_model, float_name
from qzoo.quant.eval_mode import device_of
from qzoo.quant.fast_path import close_fast_paths
from qzoo.quant.layers import channel_shape, quantize_layer, unquantize_layer
from qzoo.quant.operators.blocks import count_calls_from_start, quantize_operators, unquantize_operators
from qzoo.quant.operators.read_weights import FunctionalPlaces
from qzoo.quant.quantizer import Notice, TensorQuantizer
from qzoo.schema.resolution.plan import Functional, Plan, PlannedQuantizer, Site
from qzoo.schema.resolution.resolve import ResolvedVariant


def quantize_in_place(
    model: nn.Module, variant: ResolvedVariant, example: Any = None, seen: Survey | None = None
) -> Plan:
    """Gives a model the quantizers that a variant's rules say, in place; they have no ranges yet.

    The model keeps its class, its parameters and their names; the classes of layers, and of blocks with residual or
    other operator quantizers, are derived from their own.

    Args:
        model: float.
        variant: resolved.
        example: an input, to find out with who computes what; default: one of the likely size.
        seen: what the model has, where that is known.

    Returns:
        The plan that was carried out.

    Raises:
        RuleError: a rule written in the recipe matches nothing, or no layer is quantized at all.
        UnsupportedError: the model is quantized already, or can't be run to find its operators.

    Warns:
        FloatWeightsWarning: more than 1 % of the weights stay in float although no rule says so.
    """
    plan = plan_quantizers(model, variant, example, seen=seen)
    if not plan.quantizers:
        raise RuleError(_nothing(model, variant, plan))
    warn_of_float(model, plan.float_weights)
    carry_out(model, plan)
    remember(model, replace(provenance(model) or Provenance(), variant=variant))
    return plan


def _nothing(model: nn.Module, variant: ResolvedVariant, plan: Plan) -> str:
    said = f"{variant.name} quantizes nothing of this {type(model).__name__}: "
    if plan.float_rules:
        return f"{said}its rules leave all {len(plan.left_float)} layers in float."
    if plan.float_weights and plan.float_weights[0].macs is None:
        return (
            f"{said}it does not run on an image of a usual size, which shows what it computes. {how_to_give_one(model)}"
        )
    return f"{said}it has {len(plan.left_float)} layers that can be quantized (convolutions, linear, pooling)."


def carry_out(model: nn.Module, plan: Plan) -> None:
    """Gives a model the quantizers of a plan, in place.

    Raises:
        UnsupportedError: the model is quantized already.
    """
    refuse_quantized(model)
    notice = Notice()
    made: dict[str, dict[str, TensorQuantizer]] = {}
    at_operators: dict[str, list[PlannedQuantizer]] = {}
    for planned in plan.quantizers:
        if not planned.sites:
            made.setdefault(planned.module, {})[planned.role] = _quantizer(model, planned, notice)
        else:
            at_operators.setdefault(planned.module, []).append(planned)
    for path, by_role in made.items():
        quantize_layer(model.get_submodule(path), by_role)
    for path, planned_here in at_operators.items():
        _quantize_operators(model, path, planned_here, notice)
    close_fast_paths(model)
    if any(planned.calls > 1 for planned in plan.quantizers):
        count_calls_from_start(model)
    at_sites = [planned for planned in plan.quantizers if planned.sites]
    operators = {planned.path: float_name(model.get_submodule(planned.module)) for planned in at_sites}
    before, left_float = provenance(model) or Provenance(), frozenset(plan.left_float)
    by_path = {one.path: one for one in plan.quantizers}
    remember(model, replace(before, quantizers=made, operators=operators, left_float=left_float, planned=by_path))
    mark_in_float(model)


def _quantize_operators(model: nn.Module, path: str, planned: list[PlannedQuantizer], notice: Notice) -> None:
    places: dict[Site, dict[str, str]] = {}
    for one in planned:
        assert one.operand is not None
        for site in one.sites:
            places.setdefault(site, {})[one.operand] = one.name
    made = {one.name: _quantizer(model, one, notice) for one in planned}
    quantize_operators(model.get_submodule(path), made, places, planned[0].calls, _layers(planned))


def _layers(planned: list[PlannedQuantizer]) -> list[FunctionalPlaces]:
    names: dict[Functional, dict[str, str]] = {}
    for one in planned:
        if one.functional is not None and one.operand is not None:
            names.setdefault(one.functional, {})[one.operand] = one.name
    return [FunctionalPlaces(one.op, one.operand, one.weight, own) for one, own in names.items()]


def _quantizer(model: nn.Module, planned: PlannedQuantizer, notice: Notice) -> TensorQuantizer:
    module, spec = model.get_submodule(planned.module), planned.spec
    if not planned.of_weight:
        quantizer = TensorQuantizer(spec, notice=notice)
    elif spec.per != "channel":
        quantizer = TensorQuantizer(spec)
    else:
        quantizer = TensorQuantizer(spec, _channel_shape(module, planned))
    # As a layer that is called does, the operator keeps its input and weight for its own gradient.
    quantizer.kept = planned.layer is not None and planned.operand != "output"
    return quantizer.to(device_of(module, model))


def _channel_shape(module: nn.Module, planned: PlannedQuantizer) -> tuple[int, ...]:
    return channel_shape(module) if planned.functional is None else planned.functional.weight.channel_shape


def float_copy(model: nn.Module) -> nn.Module:
    """Returns a copy of a quantized model without its quantizers: its layers have their own classes again.

    Weights are those of the model, trained with quantizers or not.

    Args:
        model: quantized or float; not changed.

    Example:
        >>> from qzoo.zoo.create import quantize
        >>> type(float_copy(quantize(nn.Sequential(nn.Linear(2, 2)), "int8"))[0])
        <class 'torch.nn.modules.linear.Linear'>
    """
    plain = copy_model(model)
    for module in list(plain.modules()):
        unquantize_layer(module)
    unquantize_operators(plain)
    made = provenance(model) or Provenance()
    remember(plain, Provenance(base=made.base, old_head=made.old_head))
    return plain
