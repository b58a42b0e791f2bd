"""From a float model to a quantized one, in place: select layers, make quantizers, derive classes; and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qzoo.errors import RuleError, UnsupportedError, some
from qzoo.models.left_in_float import is_for_training_only, is_read_as_data
from qzoo.models.operators import class_names, find_operators
from qzoo.models.provenance import Provenance, mark_in_float, provenance, remember
from qzoo.quant.blocks import count_calls_from_start, quantize_operators
from qzoo.quant.derived import copy_model, float_name
from qzoo.quant.fast_path import close_fast_paths
from qzoo.quant.layers import channel_shape, has_weight, is_quantizable, quantize_layer, unquantize_layer
from qzoo.quant.modes import device_of
from qzoo.quant.quantizer import Notice, TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.schema.binding import bind
from qzoo.schema.percentiles import warn_of_unlikely
from qzoo.schema.plan import Layer, Plan, PlannedQuantizer, Site
from qzoo.schema.resolve import ResolvedVariant


def quantize_in_place(model: nn.Module, variant: ResolvedVariant, example: Any = None) -> Plan:
    """Gives a model the quantizers that a variant's rules say, in place; they have no ranges yet.

    The model keeps its class, its parameters and their names; the classes of layers, and of blocks with residual or
    other operator quantizers, are derived from their own.

    Args:
        model: float.
        variant: resolved.
        example: an input, to find residual additions and other operators with; default: one of the likely size.

    Returns:
        The plan that was carried out.

    Raises:
        RuleError: a rule written in the recipe matches nothing, or no layer is quantized at all.
        UnsupportedError: the model is quantized already, or can't be run to find its operators.
    """
    plan = plan_quantizers(model, variant, example)
    if not plan.quantizers:
        raise RuleError(
            f"{variant.name} quantizes nothing of this {type(model).__name__}: it has "
            f"{len(quantizable_layers(model))} layers that can be quantized (convolutions, linear, pooling)."
        )
    carry_out(model, plan)
    remember(model, replace(provenance(model) or Provenance(), variant=variant))
    return plan


def carry_out(model: nn.Module, plan: Plan) -> None:
    """Gives a model the quantizers of a plan, in place.

    Raises:
        UnsupportedError: the model is quantized already.
    """
    _refuse_quantized(model)
    notice = Notice()
    made: dict[str, dict[str, TensorQuantizer]] = {}
    at_operators: dict[str, list[PlannedQuantizer]] = {}
    for planned in plan.quantizers:
        if planned.site is None:
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
    at_sites = [planned for planned in plan.quantizers if planned.site is not None]
    operators = {planned.path: float_name(model.get_submodule(planned.module)) for planned in at_sites}
    before, left_float = provenance(model) or Provenance(), frozenset(plan.left_float)
    by_path = {one.path: one for one in plan.quantizers}
    remember(model, replace(before, quantizers=made, operators=operators, left_float=left_float, planned=by_path))
    mark_in_float(model)


def plan_quantizers(model: nn.Module, variant: ResolvedVariant, example: Any = None, *, whole: bool = False) -> Plan:
    """Returns which quantizers a variant's rules give a model, which is not changed.

    Layers that evaluation never calls count as left in float: no rule can change that.

    Args:
        model: float.
        variant: resolved.
        example: an input, to find operators with; default: one of the likely size.
        whole: look for operators even where the variant does not speak of them, to tell what stays in float.

    Raises:
        RuleError: a rule written in the recipe matches nothing.
        UnsupportedError: the model is quantized already, or can't be run to find its operators.

    Warns:
        UnlikelyPercentileWarning: a percentile below 50.
    """
    _refuse_quantized(model)
    refuse_lazy(model)
    warn_of_unlikely(variant.rules)
    operators = find_operators(model, example) if whole or variant.speaks_of_operators else []
    plan = bind(variant, [_described(path, layer) for path, layer in quantizable_layers(model).items()], operators)
    idle = [path for path, layer in model.named_modules() if has_weight(layer) and _is_idle(model, path)]
    return replace(plan, left_float=[*plan.left_float, *idle])


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that rules can speak of, by path, in the order of the model; subclasses are included."""
    return {path: layer for path, layer in model.named_modules() if is_quantizable(layer) and not _is_idle(model, path)}


def _is_idle(model: nn.Module, path: str) -> bool:
    """Whether evaluation never calls the layer at a path."""
    return is_read_as_data(model, path) or is_for_training_only(model, path)


def _refuse_quantized(model: nn.Module) -> None:
    if quantizers(model):
        raise UnsupportedError("This model is quantized already. Start again from the float one.")


def refuse_lazy(model: nn.Module) -> None:
    """Refuses a model whose layers have no weights yet.

    Raises:
        UnsupportedError: names them.
    """
    lazy = [path for path, module in model.named_modules() if any(map(is_lazy, _held(module)))]
    if lazy:
        raise UnsupportedError(
            f"{some(lazy, 3)} of {type(model).__name__} has no weights yet: a lazy layer makes them when it first "
            "runs. Run the model once, model(images), and then quantize it."
        )


def _held(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _described(path: str, layer: nn.Module) -> Layer:
    return Layer(path, class_names(layer), has_weight(layer))


def _quantize_operators(model: nn.Module, path: str, planned: list[PlannedQuantizer], notice: Notice) -> None:
    places: dict[Site, dict[str, str]] = {}
    for one in planned:
        assert one.site is not None
        assert one.operand is not None
        places.setdefault(one.site, {})[one.operand] = one.name
    made = {one.name: _quantizer(model, one, notice) for one in planned}
    quantize_operators(model.get_submodule(path), made, places, calls=planned[0].calls)


def _quantizer(model: nn.Module, planned: PlannedQuantizer, notice: Notice) -> TensorQuantizer:
    layer, spec = model.get_submodule(planned.module), planned.spec
    if planned.role != "weight":
        return TensorQuantizer(spec, notice=notice).to(device_of(layer, model))
    shape = channel_shape(layer) if spec.per == "channel" else ()
    return TensorQuantizer(spec, shape).to(device_of(layer, model))


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
    made = provenance(model) or Provenance()
    remember(plain, Provenance(base=made.base, old_head=made.old_head))
    return plain
