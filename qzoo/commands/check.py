"""Checking the ranges of a variant on images of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoo.commands.evaluate import quantized_model
from qzoo.commands.settings import Settings, usable_device
from qzoo.data import ArraySplit, default_workers, sample
from qzoo.data.unlabelled import open_unlabelled
from qzoo.errors import DataError
from qzoo.models.bases import base_transform, input_format
from qzoo.progress import Progress, phase, silent
from qzoo.results.check import CheckReport
from qzoo.results.details import Details
from qzoo.schema.calibration import named_source
from qzoo.tasks.check import FEW, check
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import LARGE_IMAGES_BATCH, SMALL_IMAGES_BATCH, Images
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.zoo.data_free import create_with_ranges
from qzoo.zoo.pretrained import float_reference
from qzoo.zoo.zoo_model import ZooModel


def check_named(
    zoo_model: ZooModel,
    settings: Settings | None = None,
    *,
    images: int | None = None,
    seed: int = 0,
    ranges: Path | None = None,
    details: Details | None = None,
    progress: Progress = silent,
) -> CheckReport:
    """Returns how well the ranges of a variant fit images of a folder, or of the evaluation split of its dataset.

    Args:
        zoo_model: a variant.
        settings: data, device, batch size.
        images: how many, a seeded sample; default: 64, or all where there are fewer.
        seed: of the sample.
        ranges: a file of ranges, of a rounding, or of a full checkpoint; default: what `create(..., pretrained=True)`
            would take.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the images.

    Raises:
        UnknownNameError: it is a float base.
        WeightsError: weights or ranges are missing, corrupt or of another base.
        DataError: there are no images, fewer than asked for, or fewer than 16.
    """
    settings, resolved = settings or Settings(), zoo_model.resolved
    with phase(progress, f"loading {zoo_model.name}"):
        shown = _images(zoo_model, settings, images, seed)
        device, base = usable_device(settings.device), float_reference(zoo_model)
        model = create_with_ranges(zoo_model, {}) if ranges is None else quantized_model(resolved, Path(ranges))
    float_model = None if base is None else base.to(device)
    report = check(model.to(device), shown, float_model=float_model, progress=progress, count=len(shown))
    gather_quantizers(details, resolved.variant, model, shown)
    return report.model_copy(update={"name": resolved.name})


def _images(zoo_model: ZooModel, settings: Settings, images: int | None, seed: int) -> Images:
    if named_source(settings.data) is not None:
        spec = zoo_model.resolved.calibration
        return calibration_images(zoo_model.base, zoo_model.dataset, spec, settings.data, images=images or FEW)
    split = open_unlabelled(zoo_model.dataset, settings.data)
    chosen = sample(split, min(FEW, len(split)) if images is None else images, seed)
    default = SMALL_IMAGES_BATCH if isinstance(split, ArraySplit) else LARGE_IMAGES_BATCH
    workers = default_workers(split) if settings.workers is None else settings.workers
    transform = _transform(zoo_model)
    return Images(split, sorted(chosen), transform, settings.batch_size or default, workers=workers)


def _transform(zoo_model: ZooModel) -> Any:
    transform = base_transform(zoo_model.base)
    if zoo_model.base.source != "qzoo":  # timm's and torchvision's resize; of one's own nothing says what it wants
        return transform
    return _OfItsSize(transform, input_format(zoo_model.base).size, zoo_model.name)


@dataclass(frozen=True)
class _OfItsSize:
    """A transform that refuses images of another size: a convolutional net runs on them, and says nothing sensible."""

    transform: Any
    size: int
    name: str

    def __call__(self, image: Any) -> Tensor:
        made: Tensor = self.transform(image)
        if tuple(made.shape[-2:]) != (self.size, self.size):
            height, width = made.shape[-2:]
            raise DataError(
                f"An image comes out of the transform of {self.name} with {height}x{width} pixels; its weights are for "
                f"{self.size}x{self.size}, and it resizes none. Give images of that size with --data."
            )
        return made
