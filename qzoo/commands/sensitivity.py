"""The sensitivity of a variant's layers by its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from qzoo.commands.evaluate import quantized_model
from qzoo.commands.optimize import ptq_model
from qzoo.commands.settings import Settings, usable_device
from qzoo.commands.shared_calibration import shared_calibration
from qzoo.data import ArraySplit
from qzoo.distributed import world_size
from qzoo.errors import UnsupportedError
from qzoo.progress import Progress, phase, silent
from qzoo.results.details import Details
from qzoo.results.reproduce import CalibrationReport
from qzoo.results.sensitivity import SensitivityReport
from qzoo.schema.resolution.resolve import ResolvedVariant, recipe_digest
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.tasks.measuring.machine import environment
from qzoo.tasks.sensitivity import sensitivity
from qzoo.zoo.pretrained import create_on_base, create_pretrained
from qzoo.zoo.zoo_model import ZooModel

LARGE_IMAGES_BATCH = 8
"""What a batch leaves behind is kept, 30 to 100 MB an image of 224 pixels; small batches also fit the cache better."""


def sensitivity_named(
    zoo_model: ZooModel,
    settings: Settings | None = None,
    *,
    ranges: Path | None = None,
    mend: int = 3,
    details: Details | None = None,
    progress: Progress = silent,
) -> SensitivityReport:
    """Returns the sensitivity of a variant's layers, with the ranges found for it or else calibrated for this.

    Args:
        zoo_model: a variant.
        settings: data, device, numbers of images.
        ranges: a ranges file; default: what `create(..., pretrained=True)` would take; if there is none, the model is
            calibrated as the recipe says, and its ranges are not kept.
        mend: how many of the worst layers to leave out together.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Raises:
        WeightsError: weights or ranges are missing, corrupt or of another base; or the variant is to be trained first.
        DataError: the dataset is missing or of the wrong kind.
        UnsupportedError: several processes run.
    """
    settings, resolved = settings or Settings(), zoo_model.resolved
    if world_size() > 1:
        raise UnsupportedError(f"Sensitivity runs in one process, not in {world_size()}. Start it without torchrun.")
    images = _evaluation_images(resolved, settings)
    model, calibration = _model(zoo_model, settings, ranges, progress)
    model.to(usable_device(settings.device))
    report = sensitivity(model, images, mend=mend, progress=progress, count=len(images))
    gather_quantizers(details, resolved.variant, model, images)
    return report.model_copy(
        update={
            "name": resolved.name,
            "version": resolved.version,
            "dataset": resolved.dataset,
            "split": images.split.name,
            "complete": len(images) == len(images.split) and images.split.complete,
            "calibration": calibration,
            "recipe_sha256": recipe_digest(zoo_model.entry),
            "environment": environment(settings.device),
        }
    )


def _evaluation_images(variant: ResolvedVariant, settings: Settings) -> Images:
    images = evaluation_images(
        variant.base, variant.dataset, settings.data,
        images=settings.eval_images, batch_size=settings.batch_size, workers=settings.workers,
    )  # fmt: skip
    if settings.batch_size is None and not isinstance(images.split, ArraySplit):
        return replace(images, batch_size=LARGE_IMAGES_BATCH)
    return images


def _model(
    zoo_model: ZooModel, settings: Settings, ranges: Path | None, progress: Progress
) -> tuple[nn.Module, CalibrationReport | None]:
    if zoo_model.resolved.finetune is not None:
        return create_pretrained(zoo_model), None
    if ranges is not None:
        return quantized_model(zoo_model.resolved, ranges), None
    if zoo_model.artifact_at_hand(zoo_model.made_by) is not None:
        with phase(progress, f"loading {zoo_model.name}"):
            return create_on_base(zoo_model), None
    return _calibrated(zoo_model, settings, progress)


def _calibrated(zoo_model: ZooModel, settings: Settings, progress: Progress) -> tuple[nn.Module, CalibrationReport]:
    variant, shared = zoo_model.resolved, shared_calibration([zoo_model], settings, progress)
    model, images = ptq_model(shared, variant, progress), shared.images_of(variant)
    leak = variant.calibration.allow_leak
    facts = CalibrationReport(images=len(images), sample_sha256=images.digest(), allow_leak=leak, short=images.short)
    return model, facts
