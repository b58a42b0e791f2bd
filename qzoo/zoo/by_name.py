"""The tasks for whoever has the name of a model in place of the model: `qzoo.export("resnet50_int8", ...)`."""

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
from qzoo.tasks.saving import save as save_model
from qzoo.tasks.sensitivity import sensitivity as sensitivity_of_model
from qzoo.zoo.create import create

P = ParamSpec("P")
R = TypeVar("R")


def _by_name(
    task: Callable[Concatenate[nn.Module, P], R], pretrained: Literal[True, "float"] = True
) -> Callable[Concatenate[nn.Module | str | Path, P], R]:
    """Returns a task whose model may be the name of a variant: that is then made, with `pretrained`."""

    @wraps(task, assigned=("__name__", "__qualname__", "__doc__", "__annotations__"))
    def named(model: nn.Module | str | Path, *arguments: Any, **options: Any) -> R:
        made = create(model, pretrained=pretrained) if isinstance(model, (str, Path)) else model
        return task(made, *arguments, **options)

    return cast("Callable[Concatenate[nn.Module | str | Path, P], R]", named)


benchmark = _by_name(benchmark_model)
calibrate = _by_name(calibrate_model, "float")
evaluate = _by_name(evaluate_model)
export = _by_name(export_model)
save = _by_name(save_model)
sensitivity = _by_name(sensitivity_of_model)
