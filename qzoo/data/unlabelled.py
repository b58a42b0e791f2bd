"""Images of which nobody asks for the labels: of any folder, or of the evaluation split of a dataset."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from qzoo.data.image_folder import find_split, is_flat, is_image, open_folder
from qzoo.data.lookup import evaluation_split, open_split
from qzoo.data.split import FileSplit, Split
from qzoo.errors import DataError


def open_unlabelled(dataset: str, data: Path | None = None) -> Split:
    """Returns images of the kind that a dataset has; their labels, if any, mean nothing.

    Args:
        dataset: its name, or that of an image folder; the one whose evaluation split is taken where it is at hand.
        data: a folder of image files; one of folders of them; or what `--data` names elsewhere, the folder of the
            dataset, or of all datasets. Without one, the dataset is looked for as elsewhere.

    Raises:
        DataError: there are no images.

    Example:
        >>> open_unlabelled("digits").name
        'test'
    """
    if data is None:
        return open_split(dataset, evaluation_split(dataset))
    if not data.is_dir():
        raise DataError(f"There is no folder {data}. Give a folder of images with --data, or that of {dataset}.")
    if (flat := _flat(data)) is not None:
        return _files(flat)
    try:
        return open_split(dataset, evaluation_split(dataset), data)
    except DataError as error:
        try:
            return open_folder(data.name, "val", data)
        except DataError:
            raise DataError(f"{error} Or give any folder of image files: their labels are not needed.") from None


def _flat(data: Path) -> Path | None:
    """Returns the folder, or its evaluation split, if image files lie in it, not folders of them."""
    try:
        folders = data, find_split(data, "val")[0]
    except DataError:
        folders = (data, data)
    return next((one for one in folders if is_flat(one)), None)


def _files(folder: Path) -> FileSplit:
    files = [os.path.join(folder, file) for file in sorted(os.listdir(folder)) if is_image(file)]
    return FileSplit(folder.name or "images", "images", files, torch.zeros(len(files), dtype=torch.int64))
