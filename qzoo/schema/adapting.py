"""The rules of a variant, changed as little as a runtime needs: what `qzoo export --adapt` resolves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qzoo.errors import UnsupportedError
from qzoo.schema.bound_rule import BoundRule, Origin, Patches
from qzoo.schema.calibrator import Calibrator
from qzoo.schema.quantizer import ActivationPatch, QuantizerPatch
from qzoo.schema.resolve import ResolvedVariant
from qzoo.schema.rule import RESIDUAL, ResidualPatch

POOLING = ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
REDUCED_BITS = 7
"""Of weights: two products with unsigned 8-bit inputs then fit 16 bits, `2 * 255 * 63 <= 32767`."""


def adapted(variant: ResolvedVariant, runtime: str, *, symmetric: bool, reduce_range: bool = False) -> ResolvedVariant:
    """Returns a variant's rules with those of a runtime in between: after its scheme, before what it says of layers.

    Args:
        variant: of integers.
        runtime: for its name, `resnet50_int8_for_onnxruntime`.
        symmetric: signed activations, and of residual additions the skip branch at most; if not, unsigned activations
            where nothing is negative, both operands of additions, and the input of the last pooling, which the last
            addition writes for.
        reduce_range: weights of 7 bits, whose sums can't overflow 16 bits on CPUs without VNNI.

    Raises:
        UnsupportedError: the variant is of FP8, or leaves activations in float.
    """
    inputs = variant.general_input()
    if not inputs or inputs.get("format", "int") != "int":
        what = f"{inputs['format']}" if inputs else "weights alone"
        raise UnsupportedError(f"{variant.name} quantizes to {what}; --adapt derives integer variants from others.")
    base = tuple(_signed(rule) for rule in variant.rules) if symmetric else variant.rules
    if reduce_range:
        base = tuple(_reduced(rule) for rule in base)
    rules = _skip_alone(variant) if symmetric else _for_integers(inputs)
    if reduce_range and variant.general_weight().get("bits", 8) > REDUCED_BITS:
        rules.append(_rule({"weight": QuantizerPatch(bits=REDUCED_BITS)}))
    written = (n for n, rule in enumerate(base) if rule.must_match and not rule.top_level)
    place = next(written, len(base))
    merged = (*base[:place], *rules, *base[place:])
    return replace(variant, name=f"{variant.name}_for_{runtime}", rules=merged, finetune=None, published=())


def _for_integers(inputs: dict[str, Any]) -> list[BoundRule]:
    pooled = ActivationPatch(bits=inputs.get("bits", 8), unsigned="auto", calibrator=Calibrator(method="max"))
    return [
        _rule({"input": ActivationPatch(unsigned="auto")}),
        _rule({RESIDUAL: ResidualPatch(placement="both")}),
        replace(_rule({"input": pooled}), types=POOLING, top_level=False, must_match=False),
    ]


def _skip_alone(variant: ResolvedVariant) -> list[BoundRule]:
    return [] if variant.residual is None else [_rule({RESIDUAL: ResidualPatch(placement="skip")})]


def _signed(rule: BoundRule) -> BoundRule:
    patches = {
        role: patch.model_copy(update={"unsigned": False})
        if isinstance(patch, QuantizerPatch) and patch.unsigned is not None
        else patch
        for role, patch in rule.patches.items()
    }
    return replace(rule, patches=patches)


def _reduced(rule: BoundRule) -> BoundRule:
    """Returns a rule that gives no weight more bits, whichever layers it is for."""
    weight = rule.patches.get("weight")
    if not isinstance(weight, QuantizerPatch) or (weight.bits or 0) <= REDUCED_BITS:
        return rule
    reduced = weight.model_copy(update={"bits": REDUCED_BITS})
    return replace(rule, patches={**rule.patches, "weight": reduced})


def _rule(patches: Patches) -> BoundRule:
    # Layers there always are; residual additions and pooling may be missing.
    must_match = RESIDUAL not in patches
    return BoundRule(None, None, patches, Origin("<adapted>", 0, "--adapt"), must_match, top_level=True)
