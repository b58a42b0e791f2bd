"""Which quantizers rules give a model, or which stand in it, and why."""

from __future__ import annotations

from typing import Any

from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.models.provenance import provenance, ranges_from
from qzoo.models.quantize import float_copy
from qzoo.models.select_layers import plan_quantizers
from qzoo.models.survey import survey
from qzoo.quant.layers import has_weight
from qzoo.quant.operators.operands import RECURRENT
from qzoo.quant.operators.spellings import MOVES
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, uncalibrated
from qzoo.results.explanation import ExplainedQuantizer, Explanation, FloatOperator, FloatShare
from qzoo.schema.resolution.plan import Plan, PlannedQuantizer
from qzoo.schema.resolution.resolve import ResolvedVariant


def explain_plan(model: nn.Module, variant: ResolvedVariant, example: Any = None) -> Explanation:
    """Returns which quantizers the rules of a variant give a float model, and which rule decides each.

    Args:
        model: float, on any device; not changed. It runs once, to find its operators.
        variant: resolved.
        example: an input that the model takes; default: one of the size that it is made for.

    Raises:
        RuleError: a rule written in the recipe matches nothing.
        UnsupportedError: the model does not run on the example, or there is none and a rule speaks of operators.
    """
    plan, is_traced = _planned(model, variant, example)
    return Explanation(
        name=variant.name,
        quantizers=[_explained(one) for one in plan.quantizers],
        left_float=plan.left_float,
        float_rules={path: str(origin) for path, origin in plan.float_rules.items()},
        float_weights=_shares(plan),
        float_operators=_computing(plan) if is_traced else None,
    )


def explain_quantized(model: nn.Module, example: Any = None) -> Explanation:
    """Returns which quantizers stand in a model, and which rule made each so.

    Args:
        model: quantized, calibrated or not; not changed.
        example: as for `explain_plan`.
    """
    made, found = provenance(model), quantizers(model)
    variant, planned = (made.variant, made.planned) if made else (None, {})
    whole = None if variant is None else _plan_of(model, variant, example)
    owners = {path.rpartition(".")[0] for path in found} | {one.layer for one in planned.values()}
    return Explanation(
        name=variant.name if variant else type(model).__name__,
        quantizers=[_standing(path, quantizer, planned.get(path)) for path, quantizer in found.items()],
        left_float=[path for path, one in model.named_modules() if has_weight(one) and path not in owners],
        float_weights=_shares(whole[0]) if whole else [],
        ranges_from=None if uncalibrated(model) else ranges_from(model),
        float_operators=_computing(whole[0]) if whole and whole[1] else None,
    )


def _plan_of(model: nn.Module, variant: ResolvedVariant, example: Any) -> tuple[Plan, bool] | None:
    try:
        return _planned(float_copy(model), variant, example)
    except UnsupportedError:
        return None


def _planned(model: nn.Module, variant: ResolvedVariant, example: Any) -> tuple[Plan, bool]:
    """Returns the plan, and whether it tells of the operators that stay in float."""
    seen = survey(model, example)
    is_traced = seen.trace is not None
    return plan_quantizers(model, variant, example, whole=is_traced, seen=seen), is_traced


def _shares(plan: Plan) -> list[FloatShare]:
    return [
        FloatShare(
            path=one.path, weights=round(100 * one.weights, 4), macs=None if not one.macs else round(100 * one.macs, 4)
        )
        for one in plan.float_weights
    ]


def _explained(planned: PlannedQuantizer) -> ExplainedQuantizer:
    return ExplainedQuantizer(
        path=planned.path,
        module=planned.module if planned.layer is None else planned.layer,
        role=planned.kind,
        spec=planned.spec,
        rule=str(planned.origin),
        fields={field: str(origin) for field, origin in planned.field_origins.items()},
    )


def _standing(path: str, quantizer: TensorQuantizer, planned: PlannedQuantizer | None) -> ExplainedQuantizer:
    amax = quantizer.amax.detach()
    zero_point = None if quantizer.zero_point is None else quantizer.zero_point.detach().round()
    known = quantizer.calibrated and amax.numel() > 0
    facts: dict[str, Any] = {
        "spec": quantizer.spec,
        "state": quantizer.state,
        "amax": (amax.min().item(), amax.max().item()) if known else None,
        "zero_point": (int(zero_point.min()), int(zero_point.max())) if known and zero_point is not None else None,
    }
    if planned is not None and planned.spec == quantizer.spec:
        return _explained(planned).model_copy(update=facts)
    module, _, name = path.rpartition(".")
    return ExplainedQuantizer(path=path, module=module, role=name.partition("_quantizer")[0], rule=None, **facts)


def _computing(plan: Plan) -> list[FloatOperator]:
    """Returns the operators in float that compute; also recurrent ones, of which the weights alone are quantized."""
    layers = [one.functional for one in plan.quantizers if one.functional and one.functional.op in RECURRENT]
    steps = dict.fromkeys((one.module, one.op) for one in layers)
    return [
        *(FloatOperator(module=module, op=op, residual=False) for module, op in steps),
        *(
            FloatOperator(module=one.module, op=one.site.op, residual=one.skip is not None)
            for one in plan.float_operators
            if one.site.op not in MOVES
        ),
    ]
