"""From a float model to a quantized one, in place: select layers, make quantizers, derive the layers' classes."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from qzoo.build.devices import device_of
from qzoo.build.provenance import Provenance, provenance, remember
from qzoo.build.read_as_data import is_read_as_data
from qzoo.errors import RuleError, UnsupportedError
from qzoo.quant.layers import channel_shape, has_weight, is_quantizable, quantize_layer
from qzoo.quant.quantizer import Notice, TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.schema.binding import Layer, Plan, PlannedQuantizer, bind
from qzoo.schema.resolve import ResolvedVariant


def quantize_in_place(model: nn.Module, variant: ResolvedVariant) -> Plan:
    """Gives a model the quantizers that a variant's rules say, in place; they have no ranges yet.

    The model keeps its class, its parameters and their names; the layers' classes are derived from their own.

    Returns:
        The plan that was carried out.

    Raises:
        RuleError: a rule written in the recipe matches nothing, or no layer is quantized at all.
        UnsupportedError: the variant asks for residual quantizers, or the model is quantized already.
    """
    if quantizers(model):
        raise UnsupportedError("This model is quantized already. Start again from the float one.")
    refuse_residual(variant)
    plan, notice = plan_quantizers(model, variant), Notice()
    if not plan.quantizers:
        raise RuleError(
            f"{variant.name} quantizes nothing of this {type(model).__name__}: it has "
            f"{len(quantizable_layers(model))} layers that can be quantized (convolutions, linear, pooling)."
        )
    made: dict[str, dict[str, TensorQuantizer]] = {}
    for planned in plan.quantizers:
        made.setdefault(planned.module, {})[planned.role] = _quantizer(model, planned, notice)
    for path, by_role in made.items():
        quantize_layer(model.get_submodule(path), by_role)
    remember(model, replace(provenance(model) or Provenance(), variant=variant, quantizers=made))
    return plan


def plan_quantizers(model: nn.Module, variant: ResolvedVariant) -> Plan:
    """Returns which quantizers a variant's rules give a model, which is not changed.

    Layers whose weight is read as data count as left in float: no rule can change that.

    Raises:
        RuleError: a rule written in the recipe matches nothing.
    """
    plan = bind(variant, [_described(path, layer) for path, layer in quantizable_layers(model).items()])
    read = [path for path, layer in model.named_modules() if has_weight(layer) and is_read_as_data(model, path)]
    return replace(plan, left_float=[*plan.left_float, *read])


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that rules can speak of, by path, in the order of the model; subclasses are included."""
    return {
        path: layer
        for path, layer in model.named_modules()
        if is_quantizable(layer) and not is_read_as_data(model, path)
    }


def refuse_residual(variant: ResolvedVariant) -> None:
    """Refuses a variant with residual quantizers.

    Raises:
        UnsupportedError: names the variant.
    """
    if variant.residual is not None:
        raise UnsupportedError(
            f"{variant.name} asks for residual quantizers ({variant.residual.placement}), which this version can't "
            "place yet. Take the variant that it is made from, or leave out `residual`."
        )


def _described(path: str, layer: nn.Module) -> Layer:
    classes = [c for c in type(layer).__mro__ if issubclass(c, nn.Module) and c is not nn.Module]
    names = [name for c in classes for name in (c.__name__, f"{c.__module__}.{c.__qualname__}")]
    return Layer(path, tuple(names), has_weight(layer))


def _quantizer(model: nn.Module, planned: PlannedQuantizer, notice: Notice) -> TensorQuantizer:
    layer, spec = model.get_submodule(planned.module), planned.spec
    if planned.role != "weight":
        return TensorQuantizer(spec, notice=notice).to(device_of(layer, model))
    shape = channel_shape(layer) if spec.per == "channel" else ()
    return TensorQuantizer(spec, shape).to(device_of(layer, model))
