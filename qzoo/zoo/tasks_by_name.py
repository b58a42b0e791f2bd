"""The tasks for whoever has the name of a model in place of the model: `qzoo.evaluate("resnet8_digits_int8")`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from torch import nn

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.models.bases import meta_model
from qzoo.quant.ranges import quantizers
from qzoo.results.explanation import Explanation
from qzoo.schema.resolve import ResolvedVariant, with_residual
from qzoo.tasks.benchmark import benchmark as benchmark_model
from qzoo.tasks.calibrate import calibrate as calibrate_model
from qzoo.tasks.evaluate import evaluate as evaluate_model
from qzoo.tasks.explain import explain_plan, explain_quantized
from qzoo.tasks.export import export as export_model
from qzoo.tasks.images import Images, calibration_images, evaluation_images
from qzoo.tasks.saving import save as save_model
from qzoo.tasks.sensitivity import sensitivity as sensitivity_of_model
from qzoo.zoo.create import create, rules_of
from qzoo.zoo.name_lookup import find, placing
from qzoo.zoo.zoo_model import ZooModel

P = ParamSpec("P")
R = TypeVar("R")


def _by_name(
    task: Callable[Concatenate[nn.Module, P], R],
    pretrained: Literal[True, "float"] = True,
    images_of: Callable[[ZooModel], Images] | None = None,
) -> Callable[Concatenate[nn.Module | str | Path, P], R]:
    """Returns a task whose model may be the name of a variant: that is then made, with `pretrained`.

    Args:
        task: a task of a model.
        pretrained: what of the model is looked for.
        images_of: gives the images of the recipe, where the task needs some and none are given.
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
        return task(create(model, pretrained=pretrained), *arguments[1:], **options)

    return cast("Callable[Concatenate[nn.Module | str | Path, P], R]", named)


def _to_calibrate_on(zoo_model: ZooModel) -> Images:
    return calibration_images(zoo_model.base, zoo_model.dataset, zoo_model.resolved.calibration)


def _to_measure_on(zoo_model: ZooModel) -> Images:
    return evaluation_images(zoo_model.base, zoo_model.dataset)


benchmark = _by_name(benchmark_model)
calibrate = _by_name(calibrate_model, "float", _to_calibrate_on)
evaluate = _by_name(evaluate_model, images_of=_to_measure_on)
export = _by_name(export_model)
save = _by_name(save_model)
sensitivity = _by_name(sensitivity_of_model, images_of=_to_measure_on)


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
        with placing(model):
            variant = find(model).resolved
            return explain_plan(meta_model(variant.base), variant)
    if not is_float:
        return explain_quantized(model, example)
    rules = scheme if isinstance(scheme, ResolvedVariant) else rules_of(scheme or "int8")
    return explain_plan(model, rules if residual is None else with_residual(rules, residual), example)
