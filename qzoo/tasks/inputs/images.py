"""The images of a run: which split, which of its images, and their digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoo.data import ArraySplit, Split, default_workers, evaluation_split, loader, open_split, sample, sample_digest
from qzoo.errors import DataError
from qzoo.models.bases import base_transform
from qzoo.schema.calibration import Source, named_source
from qzoo.schema.recipe import Base

SMALL_IMAGES_BATCH, LARGE_IMAGES_BATCH = 250, 32


@dataclass(frozen=True)
class Images:
    """Some images of a split, with the transform that makes batches of them.

    Attributes:
        split: where they come from.
        indices: which of its images, in order.
        transform: from image to float tensor.
        batch_size: how many at a time.
        short: the recipe wanted more images than the split holds.
        workers: processes that decode.
        source: of a dataset, or made without data.
    """

    split: Split
    indices: list[int]
    transform: Any
    batch_size: int
    short: bool = False
    workers: int = 0
    source: Source = "images"

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(loader(self.split, self.transform, self.batch_size, self.indices, self.workers))

    def shard(self, rank: int, world_size: int) -> Images:
        """Returns the share of one of several processes: whole batches, dealt in turn, each as one process has it."""
        return replace(self, indices=[self.indices[place] for place in self.places(rank, world_size)])

    def places(self, rank: int, world_size: int) -> list[int]:
        """Returns where the images of a share stand among all, in the order of the share."""
        firsts = range(rank * self.batch_size, len(self), world_size * self.batch_size)
        return [place for first in firsts for place in range(first, min(first + self.batch_size, len(self)))]

    @property
    def labels(self) -> Tensor:
        """The label of each image, int64 `(len,)`."""
        return self.split.labels[self.indices]

    def digest(self) -> str:
        """Returns the SHA-256 over the images and their order."""
        return sample_digest(self.split, self.indices)


def evaluation_images(
    base: Base, dataset: str, data: Path | None = None, *, images: int | None = None, batch_size: int | None = None,
    seed: int = 0, workers: int | None = None,
) -> Images:  # fmt: skip
    """Returns the images that accuracy is measured on: all of the evaluation split, or a seeded sample of it.

    Args:
        base: its weights say what the transform is.
        dataset: its name in the recipe.
        data: the folder that `--data` names.
        images: how many; default all.
        batch_size: images at a time; default 250 small ones or 32 large ones.
        seed: the seed of the sample.
        workers: processes that decode; default: as many as suit the split.

    Raises:
        DataError: the dataset is missing or of the wrong kind, or a flag asks for more images than there are.
    """
    if (source := named_source(data)) is not None:
        raise DataError(
            f"--data {source} makes images to calibrate on. Accuracy is measured on real ones, with labels: give the "
            f"folder of {dataset} with --data, or set QZOO_DATA."
        )
    split = open_split(dataset, evaluation_split(dataset), data)
    chosen = range(len(split)) if images is None else sorted(sample(split, images, seed))
    default = SMALL_IMAGES_BATCH if isinstance(split, ArraySplit) else LARGE_IMAGES_BATCH
    return Images(split, list(chosen), base_transform(base), batch_size or default, workers=workers_for(split, workers))


def workers_for(split: Split, requested: int | None) -> int:
    """Returns how many processes decode a split: as many as are requested, else as many as suit it."""
    return default_workers(split) if requested is None else requested


def is_complete(images: Images) -> bool:
    """Whether these are all images that published figures are measured on."""
    return len(images) == len(images.split) and images.split.complete
