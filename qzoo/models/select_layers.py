"""The quantizers that a variant's rules give a model's layers and operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qzoo.errors import UnsupportedError, some
from qzoo.models.float_weights import float_weights
from qzoo.models.survey import Survey, survey
from qzoo.quant.ranges import quantizers
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.percentiles import warn_of_unlikely
from qzoo.schema.resolution.plan import Plan
from qzoo.schema.resolution.resolve import ResolvedVariant


def plan_quantizers(
    model: nn.Module, variant: ResolvedVariant, example: Any = None, *, whole: bool = False, seen: Survey | None = None
) -> Plan:
    """Returns which quantizers a variant's rules give a model, which is not changed.

    Layers that evaluation never calls count as left in float: no rule can change that.

    Args:
        model: float.
        variant: resolved.
        example: an input, to find out with who computes what; default: one of the likely size.
        whole: look for operators even where the variant does not speak of them, to tell what stays in float.
        seen: what the model has, where that is known.

    Raises:
        RuleError: a rule written in the recipe matches nothing.
        UnsupportedError: the model is quantized already, or can't be run to find its operators.

    Warns:
        UnlikelyPercentileWarning: a percentile below 50.
    """
    refuse_quantized(model)
    refuse_lazy(model)
    warn_of_unlikely(variant.rules)
    needed = whole or variant.speaks_of_operators
    is_known = seen is not None and (seen.trace is not None or not needed)
    found = seen if seen and is_known else survey(model, example, must_run=needed)
    plan = bind(variant, found.layers, found.operators(model) if needed else [])
    in_float = float_weights(plan, found.weights)
    return replace(plan, left_float=[*plan.left_float, *found.idle], float_weights=in_float)


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
