"""The images of a run: which split, which of its images, and their digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoo.data import Split, loader, open_split, sample, sample_digest
from qzoo.errors import DataError
from qzoo.schema.recipe import CalibrationSpec

EVAL_BATCH = 250


@dataclass(frozen=True)
class Images:
    """Some images of a split, with the transform that makes batches of them.

    Attributes:
        split: where they come from.
        indices: which of its images, in order.
        transform: from image to float tensor.
        batch_size: how many at a time.
        short: the recipe wanted more images than the split holds.
    """

    split: Split
    indices: list[int]
    transform: Any
    batch_size: int
    short: bool = False
    workers: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(loader(self.split, self.transform, self.batch_size, self.indices, self.workers))

    def digest(self) -> str:
        """Returns the SHA-256 over the images and their order."""
        return sample_digest(self.split, self.indices)


def calibration_images(
    dataset: str, spec: CalibrationSpec, transform: Any, data: Path | None, *, evaluated_on: str,
    images: int | None = None, batch_size: int | None = None,
) -> Images:  # fmt: skip
    """Returns the images that a recipe calibrates on.

    Args:
        dataset: its name in the recipe.
        spec: split, number, seed.
        transform: from image to float tensor.
        data: the folder that `--data` names.
        evaluated_on: the split that accuracy is measured on; calibrating on it is a leak.
        images: how many, if not as the recipe says.
        batch_size: likewise.

    Raises:
        DataError: the dataset is missing or of the wrong kind; a flag asks for more images than there are; or the
            recipe calibrates on the evaluation split without `allow_leak: true`.
    """
    split = open_split(dataset, spec.split, data)
    if split.name == evaluated_on and not spec.allow_leak:
        raise DataError(
            f"The recipe calibrates on '{spec.split}', the split that accuracy is measured on: the figure would be too "
            "good. Calibrate on another split, or say `allow_leak: true` under `calibration`: every report shows it."
        )
    wanted = images if images is not None else min(spec.images, len(split))
    indices = list(sample(split, wanted, spec.seed))
    short = images is None and spec.images > len(split)
    return Images(split, indices, transform, batch_size or spec.batch_size, short)


def evaluation_images(
    dataset: str, split_name: str, transform: Any, data: Path | None, *, images: int | None = None, batch_size: int | None = None,
    seed: int = 0,
) -> Images:  # fmt: skip
    """Returns the images that accuracy is measured on: all of the split, or a seeded sample of it.

    Raises:
        DataError: the dataset is missing or of the wrong kind, or a flag asks for more images than there are.
    """
    split = open_split(dataset, split_name, data)
    chosen = range(len(split)) if images is None else sorted(sample(split, images, seed))
    return Images(split, list(chosen), transform, batch_size or EVAL_BATCH)
