"""Training one variant of a shared calibration, as its recipe says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.commands.optimize import ptq_model
from qzoo.commands.settings import Settings, usable_device
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.distributed import meet, rank
from qzoo.progress import Progress
from qzoo.results.training import TrainingReport
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.evaluate import Evaluation, evaluate_images
from qzoo.tasks.finetune import finetune
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.inputs.training_images import RecipeImages, recipe_images
from qzoo.tasks.training_run import Run
from qzoo.training.optimizer import Precision


@dataclass(frozen=True)
class Finetuned:
    """What a training made.

    Attributes:
        variant: that was trained.
        model: trained, in evaluation mode.
        report: what was run, and its curve.
        evaluation: the evaluation of the trained model.
        folder: where the run is kept.
    """

    variant: ResolvedVariant
    model: nn.Module
    report: TrainingReport
    evaluation: Evaluation
    folder: Path


def run_folder(name: str) -> Path:
    """Returns where the run of a variant is kept, unless told otherwise."""
    return environment.runs() / name


def images_to_train_on(variant: ResolvedVariant, settings: Settings, images: int | None = None) -> RecipeImages:
    """Returns the training images of a variant. Asked for before anything is measured, it refuses what can't be run.

    Args:
        variant: resolved, with a `finetune` block.
        settings: data, device.
        images: how many, a seeded sample; default all.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or smaller than a batch.
        UnsupportedError: the device can't train in the precision.
    """
    spec = variant.finetune
    assert spec is not None
    Precision(spec.precision, usable_device(settings.device))
    return recipe_images(
        variant.base, variant.dataset, variant.calibration.split, spec, settings.data,
        images=images, workers=settings.workers,
    )  # fmt: skip


def train_variant(
    shared: SharedCalibration, variant: ResolvedVariant, images: RecipeImages, judged: Images, *,
    run: Run | None = None, progress: Progress,
) -> Finetuned:  # fmt: skip
    """Returns a variant, calibrated, optimized if it says so, trained by its `finetune` block, and evaluated.

    Args:
        shared: calibrates it.
        variant: resolved, with a `finetune` block.
        images: that it is trained on.
        judged: that it is evaluated on, after each epoch.
        run: where to keep the run, and how to carry it out; default: in qzoo's own folder, by name.
        progress: shown the batches.

    Raises:
        TrainingError: loss, a gradient or a range became NaN or Inf.
    """
    spec = images.spec
    run = replace(run or Run(), dataset=variant.dataset)
    folder = run.folder or run_folder(variant.name)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    meet()
    model = ptq_model(shared, variant, progress)
    results: list[Evaluation] = []

    def judge(model: nn.Module, what: str) -> float | None:
        results[:] = [evaluate_images(model, judged, progress=progress, what=what)]
        return results[0].top1

    report = finetune(
        model, images, spec, evaluate_on=judge, teacher=shared.float_model if spec.distill else None,
        run=replace(run, folder=folder), progress=progress,
    )  # fmt: skip
    result = results[0] if results else evaluate_images(model, judged, progress=progress)
    report = report.model_copy(update={"eval_images": len(judged)})
    return Finetuned(variant, model, report, result, folder)
