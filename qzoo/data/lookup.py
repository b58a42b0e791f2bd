"""Datasets by name: where they lie, and what their splits and their training transforms are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from qzoo import environment
from qzoo.data.augmentation import Augmentation, cropped_by_area
from qzoo.data.image_folder import open_folder
from qzoo.data.split import Split
from qzoo.errors import DataError, UnknownNameError, did_you_mean, nearest, shown
from qzoo.schema.datasets import DATASETS, OWN_DATASETS, Dataset, dataset_named


@dataclass(frozen=True)
class Reader:
    """What a file of a dataset has to give.

    Attributes:
        read: a split, from a folder; None: from where the dataset lies by itself, or from the hub.
        moves: the random transforms of training, for a height and width and an interpolation.
    """

    read: Callable[[str, Path | None], Split]
    moves: Callable[[int, str], list[Any]] = cropped_by_area


_own_readers: dict[str, Reader] = {}


def add_dataset(dataset: Dataset, reader: Reader) -> None:
    """Adds a dataset, for as long as the process runs, or puts it in the place of one that was added by its name."""
    OWN_DATASETS[dataset.name], _own_readers[dataset.name] = dataset, reader


def reader_of(dataset: Dataset) -> Reader:
    """Returns what reads a dataset that has a name of its own; only its module is imported."""
    if dataset.name in OWN_DATASETS:
        return _own_readers[dataset.name]
    reader: Reader = import_module(f"qzoo.data.{dataset.module}").READER
    return reader


def evaluation_split(dataset: str) -> str:
    """Returns the split that published figures are measured on; `val` for a folder."""
    return dataset_named(dataset).evaluated_on


def open_split(dataset: str, split: str, data: Path | None = None) -> Split:
    """Returns a split of a dataset.

    Args:
        dataset: its name, `cifar10`, or an image folder: its path, or its name inside `QZOO_DATA`.
        split: `train`, `test` ...
        data: the dataset's folder, or a folder with one folder per dataset; default `QZOO_DATA`, else the hub.

    Raises:
        UnknownNameError: no dataset or split has the name.
        DataError: the folder is missing, empty, or of the wrong kind.

    Example:
        >>> len(open_split("digits", "test"))
        597
    """
    known = _known(dataset)
    if known is None:
        return open_folder(dataset, split, _named_folder(dataset, data))
    check_names(dataset, split)
    return reader_of(known).read(split, _folder(known, data))


def train_transform(
    dataset: str,
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str = "bilinear",
    seed: int = 0,
) -> Augmentation:
    """Returns the training transform of a dataset, from a uint8 image to a normalized float32 tensor `(C, size, size)`.

    The images of a folder are cropped to 8-100 % of their area and mirrored.

    Args:
        dataset: its name.
        size: height and width of the input.
        mean: the mean of each channel, for pixels in 0..1.
        std: standard deviation of each channel.
        interpolation: the interpolation of the crop: `bilinear`, `bicubic`, `nearest` ...
        seed: the seed of the augmentation.
    """
    import torch
    from torchvision.transforms import v2  # takes seconds, and few runs augment

    known = _known(dataset)
    moves = (reader_of(known).moves if known else cropped_by_area)(size, interpolation)
    grey = [v2.Grayscale()] if len(mean) == 1 else []
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
    return Augmentation(v2.Compose([v2.ToImage(), *grey, *moves, *to_float]), seed)


def check_names(dataset: str, split: str) -> None:
    """Refuses a misspelt dataset or split, without looking at any data.

    Raises:
        UnknownNameError: with the nearest names.
    """
    splits = dataset_named(dataset).splits
    if splits and split not in splits:
        raise UnknownNameError(f"{dataset} has no split '{split}'. {did_you_mean(split, splits)}")
    if not splits and nearest(dataset, DATASETS):
        _named_folder(dataset, None)  # a folder may have a similar name


def _known(dataset: str) -> Dataset | None:
    return DATASETS.get(dataset) or OWN_DATASETS.get(dataset)


def _named_folder(dataset: str, data: Path | None) -> Path:
    root = data if data is not None else environment.data_root()
    candidates = [environment.expanded(dataset, "The dataset"), *([root / dataset] if root else [])]
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None and data is not None and data.is_dir() and not nearest(dataset, DATASETS):
        return data  # `--data` may name the dataset's own folder, whatever that is called
    if found is None and "/" not in dataset:
        advice = did_you_mean(dataset, [*DATASETS, *OWN_DATASETS])
        raise UnknownNameError(
            f"Unknown dataset '{shown(dataset)}'. {advice} Or give a folder: its path, or its name inside QZOO_DATA.",
            field=("dataset",),
        )
    return found or candidates[0]


def _folder(dataset: Dataset, data: Path | None) -> Path | None:
    root = data if data is not None else environment.data_root()
    if root is None:
        return None
    if not root.is_dir() and dataset.needs_data:
        raise DataError(f"There is no folder {root}. Give the folder of {dataset.name} with --data, or set QZOO_DATA.")
    inside = root / dataset.name
    return inside if inside.is_dir() else root
