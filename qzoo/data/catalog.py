"""Which datasets there are, where they lie, and which split accuracy is measured on."""

from __future__ import annotations

from pathlib import Path

from qzoo import environment
from qzoo.data.cifar10 import open_cifar10
from qzoo.data.digits import open_digits
from qzoo.data.image_folder import open_folder
from qzoo.data.imagenet import open_imagenet
from qzoo.data.split import Split
from qzoo.errors import DataError, UnknownNameError, did_you_mean, nearest, shown
from qzoo.schema.references import SPLITS

EVALUATED_ON = {"digits": "test", "cifar10": "test", "imagenet-1k": "val"}


def evaluation_split(dataset: str) -> str:
    """Returns the split that published figures are measured on; `val` for a folder."""
    return EVALUATED_ON.get(dataset, "val")


def open_split(dataset: str, split: str, data: Path | None = None) -> Split:
    """Returns a split of a dataset.

    Args:
        dataset: `digits`, `cifar10`, `imagenet-1k`, or an image folder: its path, or its name inside `QZOO_DATA`.
        split: `train`, `test` ...
        data: the dataset's folder, or a folder with one folder per dataset; default `QZOO_DATA`, else the hub.

    Raises:
        UnknownNameError: no dataset or split has the name.
        DataError: the folder is missing, empty, or of the wrong kind.

    Example:
        >>> len(open_split("digits", "test"))
        597
    """
    if dataset not in SPLITS:
        return open_folder(dataset, split, _named_folder(dataset, data))
    check_names(dataset, split)
    folder = _folder(dataset, data)
    if dataset == "digits":
        return open_digits(split)
    if dataset == "cifar10":
        return open_cifar10(split, folder)
    return open_imagenet(split, folder)


def check_names(dataset: str, split: str) -> None:
    """Refuses a misspelt dataset or split, without looking at any data.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if dataset in SPLITS and split not in SPLITS[dataset]:
        raise UnknownNameError(f"{dataset} has no split '{split}'. {did_you_mean(split, SPLITS[dataset])}")
    if dataset not in SPLITS and nearest(dataset, SPLITS):
        _named_folder(dataset, None)  # a folder may have a similar name


def _named_folder(dataset: str, data: Path | None) -> Path:
    root = data if data is not None else environment.data_root()
    candidates = [environment.expanded(dataset, "The dataset"), *([root / dataset] if root else [])]
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None and "/" not in dataset:
        raise UnknownNameError(
            f"Unknown dataset '{shown(dataset)}'. {did_you_mean(dataset, SPLITS)} Or give a folder: its path, or its "
            "name inside QZOO_DATA.",
            field=("dataset",),
        )
    return found or candidates[0]


def _folder(dataset: str, data: Path | None) -> Path | None:
    root = data if data is not None else environment.data_root()
    if root is None:
        return None
    if not root.is_dir() and dataset != "digits":
        raise DataError(f"There is no folder {root}. Give the folder of {dataset} with --data, or set QZOO_DATA.")
    inside = root / dataset
    return inside if inside.is_dir() else root
