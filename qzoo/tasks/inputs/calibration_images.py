"""The images that a recipe calibrates on: of its dataset, or made without data."""

from __future__ import annotations

from pathlib import Path

from qzoo.data import evaluation_split, open_split, sample
from qzoo.errors import DataError
from qzoo.models.bases import base_train_transform, base_transform, create_base, input_format
from qzoo.progress import Progress, silent
from qzoo.schema.calibration import CalibrationSpec, named_source
from qzoo.schema.recipe import Base
from qzoo.tasks.inputs.data_free import data_free_images
from qzoo.tasks.inputs.images import Images, workers_for


def calibration_images(
    base: Base, dataset: str, spec: CalibrationSpec, data: Path | None = None, *, images: int | None = None,
    batch_size: int | None = None, workers: int | None = None, progress: Progress = silent,
) -> Images:  # fmt: skip
    """Returns the images that a recipe calibrates on, in its order.

    Args:
        base: its weights say what the transform is.
        dataset: its name in the recipe.
        spec: source, split, number, seed, transform.
        data: the folder that `--data` names; or a source that needs none, which goes before the recipe's.
        images: how many, if not as the recipe says.
        batch_size: images at a time, if not as the recipe says.
        workers: processes that decode; default: as many as suit the split.
        progress: shown the making of images that are distilled.

    Raises:
        DataError: the dataset is missing or of the wrong kind; a flag asks for more images than there are; or the
            recipe calibrates on the evaluation split without `allow_leak: true`.
    """
    source = named_source(data)
    if source is not None or spec.is_data_free:
        own = spec.images if source is None else None
        return data_free_images(
            input_format(base), source or spec.source, lambda: create_base(base, pretrained=True),
            images=images or own, seed=spec.seed, batch_size=batch_size or spec.batch_size, progress=progress,
        )  # fmt: skip
    split = open_split(dataset, spec.split, data)
    if split.name == evaluation_split(dataset) and not spec.allow_leak:
        raise DataError(_leak(spec.split, split.name, data))
    augmented = spec.transform == "train"
    transform = base_train_transform(base, dataset, spec.seed) if augmented else base_transform(base)
    wanted = images if images is not None else min(spec.images, len(split))
    short = images is None and spec.images > len(split)
    chosen, batch_size = sample(split, wanted, spec.seed), batch_size or spec.batch_size
    return Images(split, chosen, transform, batch_size, short, workers_for(split, workers))


def _leak(wanted: str, found: str, data: Path | None) -> str:
    too_good = "the split that accuracy is measured on: the figure would be too good."
    if wanted != found:
        return (
            f"{data} has no '{wanted}' split; it is '{found}', {too_good} Give the folder that holds both with --data."
        )
    return (
        f"The recipe calibrates on '{wanted}', {too_good} Calibrate on another split, or say `allow_leak: true` under "
        "`calibration`: every report shows it."
    )
