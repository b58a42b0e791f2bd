"""CIFAR-10: a Hugging Face-style parquet folder, or torchvision's batch files.

Source: A. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qzoo.data.encoded import EncodedImages
from qzoo.data.lookup import Reader
from qzoo.data.split import ArraySplit
from qzoo.errors import DataError
from qzoo.files import stamp
from qzoo.schema.datasets import CIFAR10

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH_FILES = "cifar-10-batches-py"

HOW_TO = (
    f"Expected data/{{train,test}}-*.parquet (columns img, label), as in the hub dataset {CIFAR10.hub_id}, or "
    f"torchvision's {BATCH_FILES}. `hf download {CIFAR10.hub_id} --repo-type dataset --local-dir FOLDER` fetches it; "
    "then give --data FOLDER or set QZOO_DATA."
)


def open_cifar10(split: str, data: Path | None) -> ArraySplit:
    """Returns a split, uint8 `(N, 3, 32, 32)`.

    Args:
        split: `train` or `test`.
        data: the folder; without one the hub is asked.

    Raises:
        DataError: the folder is missing, empty, damaged or of the wrong kind.
    """
    images: Tensor | EncodedImages
    if data is None:
        from qzoo.data.hub import cifar10_from_hub

        images, labels = cifar10_from_hub(split, HOW_TO)
    else:
        images, labels = _read(data, split)
    return ArraySplit(CIFAR10.name, split, images, labels, CLASSES, complete=len(images) == CIFAR10.splits[split])


def moves(size: int, interpolation: str) -> list[Any]:
    """Returns the moves of training: a shift of four pixels at most, mirrored at random.

    Source: He et al. 2015 (arXiv 1512.03385), section 4.2.
    """
    from torchvision.transforms import v2

    return [v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()]


READER = Reader(open_cifar10, moves)


def _read(folder: Path, split: str) -> tuple[Tensor | EncodedImages, Tensor]:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. {HOW_TO}")
    for pattern in (f"data/{split}-*.parquet", f"{split}-*.parquet", f"*/{split}-*.parquet"):
        if files := sorted(folder.glob(pattern)):
            return _from_parquet(tuple(files), stamp(files))
    for holder in (folder, folder.parent):
        if (holder / BATCH_FILES).is_dir() and (holder == folder or folder.name == BATCH_FILES):
            batches = sorted((holder / BATCH_FILES).glob("*_batch*"))
            return _from_batches(holder, split, stamp(batches))
    raise DataError(f"{folder} holds no CIFAR-10 {split} split. {HOW_TO}")


# The variants of a recipe are evaluated on the same split, one after the other.
@lru_cache(maxsize=4)
def _from_parquet(files: tuple[Path, ...], _stamp: object) -> tuple[EncodedImages, Tensor]:
    shards = [_read_parquet(file) for file in files]
    encoded = [image for images, _ in shards for image in images]
    if not encoded:
        raise DataError(f"{files[0]} holds no images. {HOW_TO}")
    return EncodedImages(encoded, (32, 32), str(files[0])), torch.cat([labels for _, labels in shards])


def _read_parquet(file: Path) -> tuple[list[bytes], Tensor]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file, columns=["img", "label"])
        encoded = table.column("img").combine_chunks().field("bytes").to_pylist()
        labels = [int(label) for label in table.column("label").to_pylist()]
    except (pyarrow.ArrowException, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DataError(f"{file} is no CIFAR-10 parquet file, or damaged ({reason}). {HOW_TO}") from error
    if strange := sorted(set(labels) - set(range(len(CLASSES)))):
        raise DataError(f"{file} has the label {strange[0]}, CIFAR-10 has 0 to 9. {HOW_TO}")
    return encoded, torch.tensor(labels)


@lru_cache(maxsize=4)
def _from_batches(folder: Path, split: str, _stamp: object) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    try:
        # torchvision checks each file's MD5 before it unpickles it.
        data = datasets.CIFAR10(str(folder), train=split == "train")
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise DataError(f"torchvision can't read {folder / BATCH_FILES} ({error}). {HOW_TO}") from error
    return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)
