"""The tasks for whoever has the name of a model in place of the model: `qzoo.evaluate("resnet8_digits_int8")`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from torch import nn

from qzoo.tasks.benchmark import benchmark as benchmark_model
from qzoo.tasks.calibrate import calibrate as calibrate_model
from qzoo.tasks.evaluate import evaluate as evaluate_model
from qzoo.tasks.export import export as export_model
from qzoo.tasks.images import Images, calibration_images, evaluation_images
from qzoo.tasks.saving import save as save_model
from qzoo.tasks.sensitivity import sensitivity as sensitivity_of_model
from qzoo.zoo.create import create
from qzoo.zoo.finding import find
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
        task: of a model.
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
