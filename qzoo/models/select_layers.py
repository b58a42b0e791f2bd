"""Which layers of a model rules can speak of, and the quantizers that a variant's rules give them.

The model runs once, to see who computes what. Most layers are called; the weights of some are read by an operator in
the forward of another module, see `models/functional_layers.py`. Layers that nobody calls or reads, such as auxiliary
classifiers, which run in training alone, stay in float: a quantizer there would see nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qzoo.errors import UnsupportedError, some
from qzoo.models.float_weights import float_weights, warn_of_float
from qzoo.models.functional_layers import class_names, functional_layers
from qzoo.models.operators import operators_of, traced
from qzoo.models.tracing import Trace
from qzoo.quant.layers import has_weight, is_quantizable
from qzoo.quant.ranges import quantizers
from qzoo.schema.binding import bind
from qzoo.schema.percentiles import warn_of_unlikely
from qzoo.schema.plan import Layer, Plan
from qzoo.schema.resolve import ResolvedVariant

READ_BY_ANOTHER = nn.modules.linear.NonDynamicallyQuantizableLinear


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
        FloatWeightsWarning: more than 1 % of the weights stay in float although no rule says so.
    """
    refuse_quantized(model)
    refuse_lazy(model)
    warn_of_unlikely(variant.rules)
    needed = whole or variant.speaks_of_operators
    found = traced(model, example) if needed or example is not None else _likely_trace(model)
    operators = operators_of(model, found) if needed and found else []
    layers = layers_of(model, found)
    plan = bind(variant, layers, operators)
    idle = _idle(model, {layer.name for layer in layers}, found)
    in_float = float_weights(model, layers, plan, found)
    warn_of_float(model, in_float, traced=found is not None)
    return replace(plan, left_float=[*plan.left_float, *idle], float_weights=in_float)


def _likely_trace(model: nn.Module) -> Trace | None:
    """Returns what a model evaluates on a likely example, if it runs on one."""
    try:
        return traced(model)
    except UnsupportedError:
        return None


def layers_of(model: nn.Module, found: Trace | None) -> list[Layer]:
    """Returns the layers that rules can speak of, in the order of the model.

    Args:
        model: float.
        found: its trace; without one, layers whose weights others read are taken for such that are called.
    """
    called = quantizable_layers(model)
    if found is None:
        # torch's own mark of a layer whose weight another module reads.
        return [_described(path, one) for path, one in called.items() if not isinstance(one, READ_BY_ANOTHER)]
    alike, read = {_without_numbers(path) for path in found.calls}, _read(found)
    called = {
        path: layer
        for path, layer in called.items()
        # One of several experts, say, is called for other images than the example.
        if path in found.calls or (_without_numbers(path) in alike and _weight(path) not in read)
    }
    functional = functional_layers(model, found, called)
    order = {path: place for place, (path, _) in enumerate(model.named_modules())}
    layers = [*(_described(path, layer) for path, layer in called.items()), *functional]
    return sorted(layers, key=lambda one: order[one.functional.module if one.functional else one.name])


def _idle(model: nn.Module, known: Collection[str], found: Trace | None) -> list[str]:
    """Returns the paths of the layers with weights that no evaluation calls or reads."""
    read = _read(found)
    weighted = [path for path, layer in quantizable_layers(model).items() if has_weight(layer)]
    return [path for path in weighted if path not in known and _weight(path) not in read]


def _read(found: Trace | None) -> set[str]:
    """Returns the paths of the parameters that an operator multiplies by."""
    return {path for call in (found.evaluations if found else ()) if call.reads for path in call.parameters}


def _weight(path: str) -> str:
    return f"{path}.weight".lstrip(".")


def _without_numbers(path: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns convolutions, linear and pooling layers by path, with subclasses."""
    return {path: layer for path, layer in model.named_modules() if is_quantizable(layer)}


def refuse_quantized(model: nn.Module) -> None:
    """Refuses a model that has quantizers.

    Raises:
        UnsupportedError: says so.
    """
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
