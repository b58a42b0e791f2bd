"""Deriving from a calibrated model the one that a runtime runs best, of the same ranges.

The rules of its variant are changed as little as the runtime needs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.models.provenance import provenance
from qzoo.models.quantize import float_copy, quantize_in_place
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.progress import Progress, silent
from qzoo.quant.fake_quant import represented
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.quant.zero_point import asymmetric_range
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.quantizer import ActivationPatch, Calibrator, QuantizerPatch
from qzoo.schema.resolution.precedence import BoundRule, Origin, Patches, Precedence, ordered
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.schema.rule import RESIDUAL, ResidualPatch
from qzoo.tasks.calibrate import calibrate
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.lost_rounding import warn_of_lost_rounding
from qzoo.tasks.measuring.machine import warn_of_saturation
from qzoo.tasks.measuring.running import measuring

POOLING = ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
REDUCED_BITS = 7
"""The bits of weights: two products with unsigned 8-bit inputs then fit 16 bits, `2 * 255 * 63 <= 32767`."""


def adapted(variant: ResolvedVariant, runtime: Runtime, *, reduce_range: bool = False) -> ResolvedVariant:
    """Returns a variant's rules with those of a runtime in between: after its scheme, before what it says of layers.

    Args:
        variant: a variant of integers.
        runtime: one that takes symmetric quantizers alone gets signed activations without zero points, and of residual
            additions the skip branch at most; another unsigned activations where nothing is negative, unless the
            variant has zero points, both operands of additions, and the input of the last pooling, which the last
            addition writes for. Weights keep zero points where their layers run on integers with them.
        reduce_range: weights of 7 bits, whose sums can't overflow 16 bits on CPUs without VNNI.

    Raises:
        UnsupportedError: the variant is of FP8, or leaves activations in float.
    """
    inputs = variant.general_input()
    if not inputs or inputs.get("format", "int") != "int":
        what = f"{inputs['format']}" if inputs else "weights alone"
        raise UnsupportedError(f"{variant.name} quantizes to {what}; --adapt derives integer variants from others.")
    base = variant.rules if runtime.weight_zero_points else tuple(_symmetric(rule, runtime) for rule in variant.rules)
    if reduce_range:
        base = tuple(_reduced(rule) for rule in base)
    rules = _skip_alone(variant) if runtime.symmetric else _for_integers(inputs)
    if reduce_range and variant.general_weight().get("bits", 8) > REDUCED_BITS:
        rules.append(_rule({"weight": QuantizerPatch(bits=REDUCED_BITS)}))
    merged = ordered([*map(_as_field, base), *rules])
    return replace(variant, name=f"{variant.name}_for_{runtime.name}", rules=merged, finetune=None, published=())


def _as_field(rule: BoundRule) -> BoundRule:
    """Returns a rule that yields to a runtime where it speaks of no single layers, though a call in Python said it."""
    yields = rule.precedence is Precedence.CALL and rule.is_field
    return replace(rule, precedence=Precedence.VARIANT) if yields else rule


def _for_integers(inputs: dict[str, Any]) -> list[BoundRule]:
    # A zero point serves where nothing is negative too: it is 0 there.
    sign = {name: inputs[name] for name in ("symmetric",) if inputs.get(name, True) is not True} or {"unsigned": "auto"}
    pooled = ActivationPatch(bits=inputs.get("bits", 8), calibrator=Calibrator(method="max"), **sign)
    return [
        _rule({"input": ActivationPatch(**sign)}),
        _rule({RESIDUAL: ResidualPatch(placement="both")}),
        replace(_rule({"input": pooled}), types=POOLING),
    ]


def _skip_alone(variant: ResolvedVariant) -> list[BoundRule]:
    return [] if variant.residual is None else [_rule({RESIDUAL: ResidualPatch(placement="skip")})]


_SYMMETRIC = {"unsigned": False, "symmetric": True}


def _symmetric(rule: BoundRule, runtime: Runtime) -> BoundRule:
    """Returns a rule that asks for no zero points, nor unsigned grids, where a runtime takes none."""
    patches = {
        role: patch.model_copy(update={name: value for name, value in _SYMMETRIC.items() if name in patch.fields()})
        if isinstance(patch, QuantizerPatch)
        and (runtime.symmetric or (role == "weight" and patch.symmetric is not None))
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
    # Residual additions and pooling may be missing.
    return BoundRule(patches, Origin("<adapted>", 0, "--adapt", shared=True), Precedence.VARIANT)


def adapt(
    model: nn.Module, runtime: Runtime, images: Any, *, to_inputs: ToInputs = None, reduce_range: bool = False,
    example: Any = None, progress: Progress = silent,
) -> nn.Module:  # fmt: skip
    """Returns a calibrated model with the quantizers that a runtime wants, of the same ranges.

    A quantizer that the model has keeps its range, and so does every other that reads the same tensor. On the images it
    is seen which activations are never negative, and quantizers that are new get their ranges: the main branches of
    residual additions, and the input of the last pooling.

    Args:
        model: calibrated, made by a scheme or a recipe; not changed.
        runtime: whose wishes are met.
        images: batches, as for `qzoo.calibrate`; not those that accuracy is measured on.
        to_inputs: as for `qzoo.calibrate`.
        reduce_range: weights of 7 bits, for CPUs without VNNI.
        example: what the model is called with, as for `qzoo.export`; default: an image of the size that the model is
            made for.
        progress: shown the batches.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are none.
        UnsupportedError: the model is of FP8, or was made by no scheme or recipe.

    Warns:
        LostRoundingWarning: weights lie on their grids, as optimizing leaves them, and get other grids.

    Example:
        >>> model = qzoo.create("resnet8_digits_int8", pretrained=True)
        >>> from qzoo.runtimes.registry import runtime_named
        >>> adapted = adapt(model, runtime_named("onnxruntime"), images)
        >>> model.layer1.conv1.input_quantizer.spec.unsigned, bool(adapted.layer1.conv1.input_quantizer.unsigned)
        (False, True)
    """
    with measuring(model):
        rules = _rules(model, runtime, reduce_range)
        found = float_copy(model)
        quantize_in_place(found, rules, example)
        calibrate(found, images, to_inputs=to_inputs, progress=progress)
        _keep_ranges(quantizers(model), found, example)
        warn_of_lost_rounding(quantized_weights(model), quantized_weights(found), runtime)
        return found


def _rules(model: nn.Module, runtime: Runtime, reduce_range: bool) -> ResolvedVariant:
    require_quantizers(model)
    require_calibrated(model, f"adapt the model to {runtime.title}")
    made = provenance(model)
    if made is None or made.variant is None:
        raise UnsupportedError(
            "This model was quantized by no scheme or recipe, so there are no rules to adapt. Quantize the float model "
            f"with qzoo.quantize(model, '{runtime.scheme}'), and calibrate it."
        )
    return adapted(made.variant, runtime, reduce_range=reduce_range)


def runnable_model(
    model: nn.Module, runtime: Runtime, images: Any, *, to_inputs: ToInputs = None, reduce_range: bool = False,
    example: Any = None, progress: Progress = silent,
) -> nn.Module:  # fmt: skip
    """Returns what a runtime gets of a model: itself, or, with images, what `adapt` makes of it.

    Warns before, where this CPU may overflow.

    Raises:
        UnsupportedError: `reduce_range` without images; or as `adapt` does.
    """
    if reduce_range and images is None:
        raise UnsupportedError("reduce_range makes another model of it: give images to adapt it on, adapt_on=...")
    if not reduce_range:
        warn_of_saturation(model, runtime)
    if images is None:
        return model
    return adapt(
        model, runtime, images, to_inputs=to_inputs, reduce_range=reduce_range, example=example, progress=progress
    )


def _keep_ranges(source: dict[str, TensorQuantizer], target: nn.Module, example: Any) -> None:
    own = quantizers(target)
    for path in own.keys() & source.keys():
        _take_range(own[path], source[path])
    for group in shared_quantizers(target, example):
        known = next((path for path in group if path in source), group[0])
        for path in group:
            _take_range(own[path], own[known])


def _take_range(quantizer: TensorQuantizer, source: TensorQuantizer) -> None:
    """Gives a quantizer the range of another, in place: the same, or one that holds it."""
    amax, zero_point, on = source.amax.detach(), source.zero_point, quantizer.grid
    if (zero_point is None) is (quantizer.zero_point is None) and (zero_point is None or on == source.grid):
        quantizer.set_amax(amax, zero_point=zero_point)
        return
    low, high = map(torch.as_tensor, represented(amax, source.grid, zero_point))
    if quantizer.zero_point is not None:
        quantizer.set_amax(*asymmetric_range(low, high, on))
    else:
        # The lowest value of a signed grid lies a step further out than its range.
        quantizer.set_amax(torch.maximum(high, low * (on.bound / on.low)) if on.low else high)
