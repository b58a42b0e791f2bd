"""Training one variant of a shared calibration, as its recipe says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.distributed import meet, rank
from qzoo.schema.resolve import ResolvedVariant
from qzoo.schema.training import TrainingReport
from qzoo.tasks.evaluate import Evaluation, evaluate_images
from qzoo.tasks.finetune import finetune
from qzoo.tasks.images import Images
from qzoo.tasks.progress import Progress
from qzoo.tasks.settings import Settings
from qzoo.tasks.shared_calibration import SharedCalibration
from qzoo.tasks.training_images import recipe_images
from qzoo.tasks.training_run import Run


@dataclass(frozen=True)
class Finetuned:
    """What a training made.

    Attributes:
        variant: that was trained.
        model: trained, in evaluation mode.
        report: what was run, and its curve.
        evaluation: of the trained model.
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


def train_variant(
    shared: SharedCalibration, variant: ResolvedVariant, judged: Images, settings: Settings, *,
    train_images: int | None = None, run: Run | None = None, progress: Progress,
) -> Finetuned:  # fmt: skip
    """Returns a variant, calibrated, trained by its `finetune` block, and evaluated.

    Args:
        shared: calibrates it.
        variant: resolved, with a `finetune` block.
        judged: the images that it is evaluated on, after each epoch.
        settings: data, device.
        train_images: how many to train on, a seeded sample; default all.
        run: where to keep the run, and how to carry it out; default: in qzoo's own folder, by name.
        progress: shown the batches.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or smaller than a batch.
        TrainingError: loss, a gradient or a range became NaN or Inf.
    """
    spec = variant.finetune
    assert spec is not None
    images = recipe_images(
        variant.base, variant.dataset, variant.calibration.split, spec, settings.data,
        images=train_images, workers=settings.workers,
    )  # fmt: skip
    run = replace(run or Run(), dataset=variant.dataset)
    folder = run.folder or run_folder(variant.name)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    meet()
    model, _ = shared.calibrated(variant)
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
