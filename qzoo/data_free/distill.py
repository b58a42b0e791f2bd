"""Images distilled out of a network: random ones, changed until it takes them for those it was trained on.

What is aimed at is what batch norms remember, and for transformers the diversity of patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from qzoo.data_free.batch_norms import batch_norms
from qzoo.data_free.distillation import Distillation, normalized
from qzoo.data_free.distillation_state import DistillationInfo
from qzoo.data_free.natural_images import natural_images
from qzoo.data_free.objective import Objective
from qzoo.data_free.patch_diversity import PatchDiversity
from qzoo.data_free.remembered import RememberedStatistics
from qzoo.errors import ArgumentError, CalibrationError, UnsupportedError
from qzoo.models.base_model import InputFormat
from qzoo.models.bases import identity
from qzoo.progress import Progress, silent
from qzoo.quant.eval_mode import device_of, evaluation_mode

STEPS, LR, SMOOTH = 40, 0.02, 1.0
"""For ResNet-50 and 64 images a step takes half a minute of one CPU core. After 20 steps ranges hardly change."""


def distilled_images(
    model: nn.Module,
    images: int,
    form: InputFormat,
    *,
    steps: int = STEPS,
    lr: float = LR,
    smooth: float = SMOOTH,
    seed: int = 0,
    objective: Objective | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Returns images that a network takes for those it was trained on, made from `natural_images`.

    The model is not changed. The same call gives the same images on the same machine, be it interrupted in between.

    Args:
        model: float, with trained weights.
        images: how many.
        form: size, mean and deviation of the model's input.
        steps: how often each image is changed, at most; it ends before when the loss stays where it is.
        lr: how far a pixel, in 0..1, moves in the first step; falls to 0 along a cosine.
        smooth: how much total variation counts.
        seed: of the images that it begins with.
        objective: what is aimed at; default: what fits the model, see `objective_of`.
        folder: where the state is kept, every 10 seconds or after each step that takes longer; if it has one of the
            same settings and weights, that goes on. None: nowhere.
        progress: shows images that were changed, each counted at each step.

    Returns:
        uint8 `(images, C, size, size)`, on the CPU.

    Raises:
        ArgumentError: `steps`, `lr` or `smooth` is below 0; or as `natural_images`.
        UnsupportedError: as `objective_of`.
        CalibrationError: the loss is no finite number; or as `objective_of`.
        OSError: nothing can be written into the folder.

    Example:
        >>> import qzoo
        >>> from qzoo.models.base_model import InputFormat
        >>> model = qzoo.create("resnet8_digits", pretrained=True)
        >>> distilled_images(model, 4, InputFormat(8, (0.5,), (0.5,)), steps=2).shape
        torch.Size([4, 1, 8, 8])
    """
    for name, value in (("steps", steps), ("lr", lr), ("smooth", smooth)):
        if not value >= 0:
            raise ArgumentError(f"{name} is {value} for images that are distilled; expected 0 or more.")
    start = natural_images(images, form.size, len(form.mean), seed)
    with _frozen(model):
        objective = objective or objective_of(model, start[:1], form)
        info = DistillationInfo(
            **identity(model), objective=objective.name, images=images, steps=steps, lr=lr, smooth=smooth, seed=seed,
            size=form.size, mean=form.mean, std=form.std, threads=torch.get_num_threads(),
        )  # fmt: skip
        run = Distillation(objective, form, info, folder)
        run.begin(start.to(device_of(model)))
        for _ in progress(run.changes(), run.left, run.words):
            pass
    return run.pixels.mul(255).round().to("cpu", torch.uint8)


def objective_of(model: nn.Module, image: Tensor, form: InputFormat) -> Objective:
    """Returns what images of a model are distilled towards: what its batch norms remember, or else patch diversity.

    Args:
        model: in evaluation mode.
        image: uint8 `(1, C, H, W)`.
        form: mean and deviation of its input.

    Raises:
        UnsupportedError: it has neither batch norm nor attention.
        CalibrationError: a batch norm remembers what is impossible, or none was ever trained.

    Warns:
        UntrainedStatisticsWarning: as `batch_norms`.
    """
    example = normalized(image.to(device_of(model)) / 255, form)
    try:
        norms = batch_norms(model, example)
    except UnsupportedError:
        return _patch_diversity(model, example)
    if not norms:
        raise CalibrationError(
            f"No batch norm of {type(model).__name__} remembers anything that images could be distilled from: each has "
            "mean 0 and variance 1, or sees several inputs. Load trained weights, or take natural images as they are."
        )
    return RememberedStatistics(model, norms)


def _patch_diversity(model: nn.Module, example: Tensor) -> Objective:
    made = PatchDiversity(model)
    with torch.no_grad():
        if not made.statistics(example):
            raise UnsupportedError(
                f"{type(model).__name__} has neither batch norm, which remembers images, nor attention between "
                "patches, so none can be distilled from it. Take natural images as they are: natural_images."
            )
    return made


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, without gradients of its parameters; afterwards it is as it was."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        with evaluation_mode(model), torch.inference_mode(False):
            yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
