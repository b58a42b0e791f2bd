"""Folders of images, one subfolder a class; a WordNet id is ImageNet's class of that id, wherever its folder stands."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from qzoo.data.split import FileSplit
from qzoo.data.synsets import imagenet_synsets, is_wordnet_id
from qzoo.errors import DataError
from qzoo.schema.datasets import IMAGENET

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
FOLDERS = {"train": ("train",), "val": ("val", "validation", "test"), "test": ("test", "val", "validation")}


def open_folder(dataset: str, split: str, data: Path) -> FileSplit:
    """Returns a split of an image folder.

    Args:
        dataset: `imagenet-1k`, or a name for messages. Under any name, folders that are all called by ImageNet's
            WordNet ids are its classes.
        split: a subfolder of `data`; `val`, `validation` and `test` stand in for each other. Without any such subfolder
            `data` itself is the evaluation split `val`, whatever is asked for, so that nobody calibrates on the images
            that accuracy is measured on; unless it is called `train`.
        data: the folder.

    Raises:
        DataError: the folder is missing, has no class folders or no images, lacks the split, or a class folder of
            ImageNet is no WordNet id.
    """
    folder, name = find_split(data, split)
    files = _image_files(folder)
    if not files:
        raise DataError(
            f"{folder} holds no images in class folders (expected {folder}/<class>/<image>.JPEG or "
            f"{folder}/{split}/<class>/<image>.JPEG{_other_forms(dataset, split)}). "
            f"Give the folder of {dataset} with --data, or set QZOO_DATA."
        )
    present = sorted({_class_of(file) for file in files})
    if dataset == IMAGENET.name:
        _refuse_strange_classes(folder, present)
    is_imagenet = _are_imagenet(present)
    classes = list(imagenet_synsets()) if is_imagenet else _all_classes(data, present)
    index = {wordnet_id: position for position, wordnet_id in enumerate(classes)}
    labels = torch.tensor([index[_class_of(file)] for file in files])
    complete = not is_imagenet or len(files) == IMAGENET.splits.get(name)
    return FileSplit(dataset, name, files, labels, classes, complete)


def find_split(data: Path, split: str) -> tuple[Path, str]:
    """Returns the folder of a split, and the name that the split goes by: `val` for any stand-in.

    Raises:
        DataError: there is no such folder, but one of another split.
    """
    if not data.is_dir():
        raise DataError(f"There is no folder {data}. Give the folder of the dataset with --data, or set QZOO_DATA.")
    found = _subfolder(data, split)
    if found:
        return found, "val" if found == _subfolder(data, "val") else split
    others = sorted({name for names in FOLDERS.values() for name in names if (data / name).is_dir()})
    if others or (data.name == "train" and split != "train"):
        has = f"it has {', '.join(others)}" if others else "it is a train split itself"
        raise DataError(f"{data} has no folder {split}: {has}. Give the folder that holds both with --data.")
    return data, "train" if data.name == "train" else "val"


def is_flat(folder: Path) -> bool:
    """Returns whether a folder holds images themselves, not class folders of them."""
    entries = list(os.scandir(folder))
    has_classes = any(is_wordnet_id(entry.name) and entry.is_dir() for entry in entries)
    return not has_classes and any(is_image(entry.name) for entry in entries)


def is_image(file: str) -> bool:
    """Returns whether a file's name is that of an image, and not hidden."""
    return file.lower().endswith(EXTENSIONS) and not file.startswith(".")


def _subfolder(data: Path, split: str) -> Path | None:
    return next((data / name for name in FOLDERS.get(split, (split,)) if (data / name).is_dir()), None)


def _other_forms(dataset: str, split: str) -> str:
    if dataset != IMAGENET.name:
        return ""
    parquet = "validation" if split == "val" else split
    return f", or {split}/*.JPEG with a label file, or data/{parquet}-*.parquet"


def _image_files(folder: Path) -> list[str]:
    return [
        os.path.join(folder, name, file)
        for name in _class_folders(folder)
        for file in sorted(os.listdir(folder / name))
        if is_image(file)
    ]


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _class_of(file: str) -> str:
    return os.path.basename(os.path.dirname(file))


def _refuse_strange_classes(folder: Path, present: list[str]) -> None:
    strange = [name for name in present if name not in imagenet_synsets()]
    if strange:
        raise DataError(
            f"{folder} is no ImageNet-1k folder: '{strange[0]}' is not one of the 1,000 WordNet ids (n01440764 ...). "
            "Give the folder with --data, or name the dataset by its path."
        )


def _are_imagenet(present: list[str]) -> bool:
    # The pattern first: reading timm's list imports timm, which takes seconds.
    return all(map(is_wordnet_id, present)) and imagenet_synsets().keys() >= set(present)


def _all_classes(data: Path, present: list[str]) -> list[str]:
    # A split may lack a class that another has: the index of a class is its place among those of all splits.
    root = data.parent if data.name in {name for names in FOLDERS.values() for name in names} else data
    folders = {_subfolder(root, split) for split in FOLDERS} - {None}
    return sorted({*present, *(name for folder in folders if folder for name in _class_folders(folder))})
