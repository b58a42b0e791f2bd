"""`qzoo.explain`: by the name of a variant, of a float model before it is quantized, and of a quantized one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.models.bases import meta_model
from qzoo.quant.ranges import quantizers
from qzoo.results.explanation import Explanation
from qzoo.schema.resolve import ResolvedVariant, with_residual
from qzoo.tasks.explain import explain_plan, explain_quantized
from qzoo.zoo.create import rules_of
from qzoo.zoo.finding import find


@checked
def explain(
    model: nn.Module | str | Path,
    scheme: str | ResolvedVariant | None = None,
    *,
    residual: str | dict[str, Any] | None = None,
    example: Any = None,
) -> Explanation:
    """Returns each quantizer that a model gets, or has, with the rule that decided it, and all that stays in float.

    Args:
        model: a float module, whose quantizers are planned and not made; a quantized module, of which it is told what
            stands in it; or the name of a variant, which needs neither weights nor memory. Not changed.
        scheme: for a float module: as for `qzoo.quantize`; default: `int8`.
        residual: for a float module: as for `qzoo.quantize`.
        example: an input that the module takes, or a tuple of several. It runs once to find residual additions and
            other operators; without an example, on random images of the size it is made for.

    Raises:
        ArgumentError: there is a scheme for what is quantized already, or for a name, which says it itself.
        UnknownNameError: no recipe, variant or scheme has the name.
        UnsupportedError: operators are to be found, and the module does not run on the example.

    Example:
        >>> found = explain(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), "int8")
        >>> for one in found.quantizers:
        ...     print(one.path, "|", one.spec, "|", one.rule)
        0.input_quantizer | 8bit per-tensor max | scheme int8 rules.0  recipes/schemes/int8.yaml:3
        0.weight_quantizer | 8bit per-channel max | scheme int8 rules.0  recipes/schemes/int8.yaml:3
    """
    is_float = isinstance(model, nn.Module) and not quantizers(model)
    if not is_float and (scheme is not None or residual is not None):
        said = f"scheme={scheme!r}" if scheme is not None else f"residual={residual!r}"
        what = "a quantized model" if isinstance(model, nn.Module) else f"a name, '{model}'"
        raise ArgumentError(f"explain() got {said} for {what}; it goes with a float module alone.")
    if not isinstance(model, nn.Module):
        variant = find(model).resolved
        return explain_plan(meta_model(variant.base), variant)
    if not is_float:
        return explain_quantized(model, example)
    rules = scheme if isinstance(scheme, ResolvedVariant) else rules_of(scheme or "int8")
    return explain_plan(model, rules if residual is None else with_residual(rules, residual), example)
