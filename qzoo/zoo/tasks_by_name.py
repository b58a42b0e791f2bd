"""The tasks for whoever has the name of a model in place of the model: `qzoo.evaluate("resnet8_digits_int8")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.models.bases import meta_model
from qzoo.models.provenance import provenance
from qzoo.models.quantize import float_copy
from qzoo.progress import Progress, silent
from qzoo.quant.outputs import Logits
from qzoo.quant.ranges import quantizers
from qzoo.results.comparison import Comparison
from qzoo.results.explanation import Explanation
from qzoo.schema.resolution.call import Calibration, with_call
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.schema.rule import Rule
from qzoo.tasks.benchmark import benchmark as benchmark_model
from qzoo.tasks.calibrate import calibrate as calibrate_model
from qzoo.tasks.check import FEW
from qzoo.tasks.check import check as check_model
from qzoo.tasks.compare import USUAL, compare_calibrators
from qzoo.tasks.evaluate import evaluate as evaluate_model
from qzoo.tasks.explain import explain_plan, explain_quantized
from qzoo.tasks.export import export as export_model
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.optimize import optimize as optimize_model
from qzoo.tasks.saving import save as save_model
from qzoo.tasks.sensitivity import sensitivity as sensitivity_of_model
from qzoo.zoo.create import create, rules_of
from qzoo.zoo.data_free import origin
from qzoo.zoo.name_lookup import find, placing
from qzoo.zoo.pretrained import float_reference
from qzoo.zoo.zoo_model import ZooModel

P = ParamSpec("P")
R = TypeVar("R")


def _by_name(
    task: Callable[Concatenate[nn.Module, P], R],
    pretrained: Literal[True, "float"] = True,
    images_of: Callable[[ZooModel], Images] | None = None,
    beside: Callable[[ZooModel], Mapping[str, Any]] | None = None,
) -> Callable[Concatenate[nn.Module | str | Path, P], R]:
    """Returns a task whose model may be the name of a variant: that is then made, with `pretrained`.

    Args:
        task: a task of a model.
        pretrained: what of the model is looked for.
        images_of: gives the images of the recipe, where the task needs some and none are given.
        beside: gives what else the task gets of a name, where nobody gives it.
    """

    # All that a task says of itself but its module: this one is where the public name lives.
    @wraps(task, assigned=("__name__", "__qualname__", "__doc__", "__annotations__"))
    def named(*arguments: Any, **options: Any) -> R:
        model = arguments[0] if arguments else options.get("model")
        if not isinstance(model, (str, Path)):
            return task(*arguments, **options)
        options.pop("model", None)
        if images_of and not arguments[1:] and "images" not in options:
            options["images"] = images_of(find(model))
        if beside:
            options = {**beside(find(model)), **options}
        return task(create(model, pretrained=pretrained), *arguments[1:], **options)

    return cast("Callable[Concatenate[nn.Module | str | Path, P], R]", named)


def _to_calibrate_on(zoo_model: ZooModel) -> Images:
    return calibration_images(zoo_model.base, zoo_model.dataset, zoo_model.resolved.calibration)


def _to_measure_on(zoo_model: ZooModel) -> Images:
    return evaluation_images(zoo_model.base, zoo_model.dataset)


def _to_check_on(zoo_model: ZooModel) -> Images:
    return evaluation_images(zoo_model.base, zoo_model.dataset, images=FEW)


def _float_reference(zoo_model: ZooModel) -> dict[str, nn.Module | None]:
    return {"float_model": float_reference(zoo_model)}


benchmark = _by_name(benchmark_model)
check = _by_name(check_model, images_of=_to_check_on, beside=_float_reference)
calibrate = _by_name(calibrate_model, "float", _to_calibrate_on)
evaluate = _by_name(evaluate_model, images_of=_to_measure_on)
export = _by_name(export_model)
optimize = _by_name(optimize_model, "float", _to_calibrate_on)
save = _by_name(save_model)
sensitivity = _by_name(sensitivity_of_model, images_of=_to_measure_on)


@checked
def explain(
    model: nn.Module | str | Path,
    scheme: str | ResolvedVariant | None = None,
    *,
    residual: str | dict[str, Any] | None = None,
    calibrator: Calibration | None = None,
    skip: str | Sequence[str] = (),
    rules: Sequence[Rule | Mapping[str, Any]] = (),
    example: Any = None,
) -> Explanation:
    """Returns each quantizer that a model gets, or has, with the rule that decided it, and all that stays in float.

    Args:
        model: a float module, whose quantizers are planned and not made; a quantized module, of which it is told what
            stands in it; or the name of a variant, which needs neither weights nor memory. Not changed.
        scheme: for a float module: as for `qzoo.quantize`; default: `int8`.
        residual: for a float module: as for `qzoo.quantize`.
        calibrator: for a float module: as for `qzoo.quantize`.
        skip: for a float module: as for `qzoo.quantize`.
        rules: for a float module: as for `qzoo.quantize`.
        example: an input that the module takes, a tuple of several, or a dict of them by name. It runs once to find
            residual additions and other operators; without an example, on random images of the size it is made for.

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
    given = {"scheme": scheme, "residual": residual, "calibrator": calibrator, "skip": skip, "rules": rules}
    said = [f"{name}={value!r}" for name, value in given.items() if value not in (None, ())]
    if not is_float and said:
        what = "a quantized model" if isinstance(model, nn.Module) else f"a name, '{model}'"
        raise ArgumentError(f"explain() got {said[0]} for {what}; it goes with a float module alone.")
    if not isinstance(model, nn.Module):
        with placing(model):
            named = find(model)
            planned = explain_plan(meta_model(named.base), named.resolved)
            return planned.model_copy(update={"ranges_from": origin(model)})
    if not is_float:
        return explain_quantized(model, example)
    variant = scheme if isinstance(scheme, ResolvedVariant) else rules_of(scheme or "int8")
    called = with_call(variant, residual=residual, calibrator=calibrator, skip=skip, rules=rules)
    return explain_plan(model, called, example)


@checked
def compare(
    model: nn.Module | str | Path,
    images: Any = None,
    labelled: Any = None,
    *,
    calibrators: Sequence[Calibration] = USUAL,
    scheme: str | ResolvedVariant | None = None,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    example: Any = None,
    progress: Progress = silent,
) -> Comparison:
    """Returns how a model does with the ranges that each of several calibrators finds: top-1, agreement, noise.

    The images to calibrate on are shown once, to the collectors of all; then each batch is measured with the ranges of
    each. `qzoo.quantize(model, calibrator=found.best)` takes the first of the table.

    Args:
        model: a float module; one that `qzoo.quantize` or `qzoo.create` made, whose scheme, `skip` and rules are taken;
            or the name of a variant. Not changed.
        images: to calibrate on: any iterable of `x` or `(x, y)`, `x` float `(N, C, H, W)`, already transformed. Of a
            name, default: those of its recipe.
        labelled: to measure on: any iterable of `(x, y)`, or of `x`, which gives no top-1. Of a name, default: those
            of its recipe.
        calibrators: for the inputs of layers with weights: `max`, `mse`, `entropy`, `{"percentile": 99.99}`.
        scheme: for a float module: as for `qzoo.quantize`; default: `int8`.
        to_inputs: as for `qzoo.evaluate`; for both kinds of images.
        logits: as for `qzoo.evaluate`.
        example: an input that the module takes, as for `qzoo.quantize`.
        progress: shown the batches.

    Raises:
        ArgumentError: a scheme goes with a float module alone, images with any module.
        RuleError: there is no such calibrator; with the nearest name.
        CalibrationError: a quantizer saw nothing, NaN or Inf.
        DataError: there are no images to measure on, or the model gives NaN.

    Example:
        >>> found = compare("resnet8_digits_w4a4", calibrators=["max", "mse", {"percentile": 99.9}])
        >>> str(found.best), len(found.rows), found.float_top1
        ('max', 3, 99.33)
    """
    if isinstance(model, nn.Module):
        if images is None or labelled is None:
            missing = "images" if images is None else "labelled"
            raise ArgumentError(f"compare() got no {missing}; only the name of a variant has images of its own.")
    else:
        images, labelled = images_of(find(model), images, labelled)
        model = create(model, pretrained="float")
    float_model, variant = with_rules(model, scheme, "compare")
    return compare_calibrators(
        float_model, variant, images, labelled, calibrators, to_inputs=to_inputs, logits=logits, example=example,
        progress=progress,
    )  # fmt: skip


def images_of(named: ZooModel, images: Any, labelled: Any) -> tuple[Any, Any]:
    """Returns images to calibrate and to measure on: those of the recipe, where none are given."""
    to_calibrate_on = _to_calibrate_on(named) if images is None else images
    return to_calibrate_on, _to_measure_on(named) if labelled is None else labelled


def with_rules(model: nn.Module, scheme: str | ResolvedVariant | None, task: str) -> tuple[nn.Module, ResolvedVariant]:
    """Returns the float model, and the rules that it is to be quantized by.

    Args:
        model: float or quantized.
        scheme: for a float model; default: `int8`.
        task: the name of the function, for messages.

    Raises:
        ArgumentError: there is a scheme for a model that is quantized, or nothing tells how it was.
    """
    if not quantizers(model):
        return model, scheme if isinstance(scheme, ResolvedVariant) else rules_of(scheme or "int8")
    made = provenance(model)
    if made is None or made.variant is None:
        raise ArgumentError(f"{task}() got a model that no scheme or recipe quantized. Give the float model.")
    if scheme is not None:
        raise ArgumentError(f"{task}() got scheme={scheme!r} for a quantized model; it goes with a float module alone.")
    return float_copy(model), made.variant
