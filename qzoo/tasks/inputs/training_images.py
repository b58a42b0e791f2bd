"""The images of a training: their order in each epoch, and this process's share of each batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from qzoo.data import Split, default_workers, evaluation_split, loader, open_split, sample
from qzoo.distributed import rank, world_size
from qzoo.errors import DataError
from qzoo.models.bases import base_train_transform, base_transform
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.recipe import Base
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches, converted, described

SEEDS_APART = 1_000_003
"""Between the augmentation seeds of two epochs."""


class TrainingImages(Protocol):
    """What a training runs on.

    Attributes:
        steps: batches of an epoch.
        images: that an epoch sees, in all processes together.
        example: the inputs of a batch, which the model runs on; None: it runs on images of the usual size.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def images(self) -> int: ...  # noqa: D102
    @property
    def example(self) -> Any: ...  # noqa: D102

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        """Yields the batches of an epoch, with labels, from the `first` on: this process's share of each."""


@dataclass(frozen=True)
class RecipeImages:
    """Images of a recipe's training split, in an order that only seed and epoch decide.

    Attributes:
        split: where they come from.
        indices: which of its images.
        base: its weights say what the transform is.
        dataset: its name in the recipe.
        spec: batch size, seed, transform.
        workers: processes that decode.
    """

    split: Split
    indices: Sequence[int]
    base: Base
    dataset: str
    spec: FinetuneSpec
    workers: int = 0
    example = None

    @property
    def steps(self) -> int:
        """Whole batches that the images make."""
        return len(self.indices) // self.spec.batch_size

    @property
    def images(self) -> int:
        """Those of whole batches; which ones are left out changes with the epoch."""
        return self.steps * self.spec.batch_size

    def order(self, number: int) -> list[int]:
        """Returns the images of an epoch, in order; the same on every machine."""
        # A fixed bit generator and sorting keys: NumPy guarantees these streams, not that of its permutations.
        keys = np.random.PCG64(np.random.SeedSequence([self.spec.seed, number])).random_raw(len(self.indices))
        return [self.indices[place] for place in np.argsort(keys, kind="stable")[: self.images]]

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the batches of an epoch from the `first` on: this process's share of each."""
        share = self.spec.batch_size // world_size()
        order, start = self.order(number), rank() * share
        batches = range(first * self.spec.batch_size, self.images, self.spec.batch_size)
        own = [index for batch in batches for index in order[batch + start : batch + start + share]]
        return loader(self.split, self._transform(number), share, own, self.workers)

    def _transform(self, number: int) -> Any:
        if self.spec.transform == "eval":
            return base_transform(self.base)
        return base_train_transform(self.base, self.dataset, self.spec.seed + SEEDS_APART * (number + 1))


def recipe_images(
    base: Base, dataset: str, split: str, spec: FinetuneSpec, data: Path | None = None, *, images: int | None = None,
    workers: int | None = None,
) -> RecipeImages:  # fmt: skip
    """Returns the training images of a recipe.

    Args:
        base: its weights say what the transform is.
        dataset: its name in the recipe.
        split: that calibration takes its images from.
        spec: the schedule.
        data: the folder that `--data` names.
        images: how many, a seeded sample; default all.
        workers: processes that decode; default: as many as suit the split.

    Raises:
        DataError: the dataset is missing or of the wrong kind; it is the evaluation split; it does not fill a batch; or
            the processes can't share a batch evenly.
    """
    found = open_split(dataset, split, data)
    if found.name == evaluation_split(dataset):
        raise DataError(
            f"Training on '{found.name}', the split that accuracy is measured on, would make the figure worthless. "
            "Give a folder that holds a training split too with --data."
        )
    chosen = range(len(found)) if images is None else sample(found, images, spec.seed)
    if len(chosen) < spec.batch_size:
        raise DataError(
            f"A batch of {spec.batch_size} images is requested, but there are only {len(chosen):,} to train on. "
            f"Say --batch-size {len(chosen)} or less."
        )
    if spec.batch_size % world_size():
        raise DataError(
            f"{world_size()} processes can't share a batch of {spec.batch_size} images evenly. "
            f"Say --batch-size {spec.batch_size // world_size() * world_size() or world_size()}: it is of all together."
        )
    return RecipeImages(found, chosen, base, dataset, spec, default_workers(found) if workers is None else workers)


def require_labels(batch: Batch) -> Tensor:
    """Returns the labels of a batch.

    Raises:
        DataError: it has none; names the batch.
    """
    if batch.labels is None:
        raise DataError(
            f"{batch.name}, {described(batch.inputs)}, has no labels to train on; expected (x, y), or a dict with "
            "'labels'."
        )
    return batch.labels


class GivenImages:
    """What a user iterates over for an epoch, such as a `DataLoader`.

    Args:
        batches: a collection of batches with labels, already transformed, gone through once an epoch. With several
            processes each gives its own share, as a `DistributedSampler` does.
        to_inputs: a function that makes such a batch of an item.

    Attributes:
        example: the inputs of the first batch, on the CPU.

    Raises:
        DataError: it can be iterated over once only, does not tell how many batches it has, or has no labels.
    """

    def __init__(self, batches: Any, to_inputs: ToInputs = None) -> None:
        if not hasattr(batches, "__len__") or iter(batches) is batches:
            raise DataError(
                "Training iterates over the images once an epoch, so they have to be a list of (x, y) or a DataLoader, "
                f"not {type(batches).__name__}."
            )
        self.batches, self.to_inputs = [batches] if isinstance(batches, Mapping) else batches, to_inputs
        self.steps = len(self.batches)
        first = next(as_batches(batches, torch.device("cpu"), to_inputs), None)
        if first is None:
            raise DataError("There are no images to train on.")
        require_labels(first)
        self.example = first.inputs
        self.images = self.steps * first.images * world_size()

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        """Returns the batches from the `first` on, after telling a sampler which epoch it is."""
        sampler = getattr(self.batches, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(number)
        batches = iter(self.batches)
        # Now, not when the next one is requested: skipping may draw random numbers.
        deque(islice(batches, first), maxlen=0)
        return converted(batches, self.to_inputs)
