"""Folders of images, one subfolder a class; for ImageNet the class is the WordNet id, never the folder's position."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from qzoo.data.split import FileSplit
from qzoo.errors import DataError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
VALIDATION_IMAGES = 50_000


def open_folder(dataset: str, split: str, data: Path) -> FileSplit:
    """Returns a split of an image folder.

    Args:
        dataset: `imagenet-1k`, or a name for messages.
        split: a subfolder of `data`; `val` and `validation` are one. Without such a subfolder, `data` itself.
        data: the folder.

    Raises:
        DataError: the folder is missing, has no class folders or no images, or a class folder of ImageNet is no
            WordNet id.
    """
    folder = _split_folder(data, split)
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [file for path in classes for file in sorted(path.iterdir()) if file.suffix.lower() in EXTENSIONS]
    if not files:
        raise DataError(
            f"{folder} holds no images in class folders (expected {folder}/<class>/<image>.JPEG). Look at --data."
        )
    index = (
        _imagenet_classes(folder, classes)
        if dataset == "imagenet-1k"
        else {path.name: n for n, path in enumerate(classes)}
    )
    labels = torch.tensor([index[file.parent.name] for file in files])
    return FileSplit(
        dataset, split, files, labels, complete=len(files) == VALIDATION_IMAGES or dataset != "imagenet-1k"
    )


def _split_folder(data: Path, split: str) -> Path:
    if not data.is_dir():
        raise DataError(f"There is no folder {data}. Give the folder of the dataset with --data, or set QZOO_DATA.")
    names = {"val", "validation"} if split in ("val", "validation", "test") else {split}
    found = [data / name for name in [split, *sorted(names)] if (data / name).is_dir()]
    return found[0] if found else data


def _imagenet_classes(folder: Path, classes: list[Path]) -> dict[str, int]:
    known = imagenet_synsets()
    strange = [path.name for path in classes if path.name not in known]
    if strange:
        raise DataError(
            f"{folder} is no ImageNet-1k folder: '{strange[0]}' is not one of the 1,000 WordNet ids (n01440764 ...)."
        )
    return known


@cache
def imagenet_synsets() -> dict[str, int]:
    """Returns the class index of each of the 1,000 WordNet ids, from timm's own list."""
    from timm.data import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}
