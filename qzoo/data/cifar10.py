"""CIFAR-10: a Hugging Face-style parquet folder, or torchvision's batch files.

Source: A. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from qzoo.data.split import ArraySplit
from qzoo.errors import DataError

SIZES = {"train": 50_000, "test": 10_000}

HOW_TO = (
    "Expected data/{train,test}-*.parquet (columns img, label), as in the hub dataset uoft-cs/cifar10, or torchvision's "
    "cifar-10-batches-py. `hf download uoft-cs/cifar10 --repo-type dataset --local-dir FOLDER` fetches it; "
    "then give --data FOLDER or set QZOO_DATA."
)


def open_cifar10(split: str, data: Path | None) -> ArraySplit:
    """Returns a split, uint8 `(N, 3, 32, 32)`.

    Raises:
        DataError: the folder is missing, empty, damaged or of the wrong kind.
    """
    if data is None:
        from qzoo.data.hub import cifar10_from_hub

        images, labels = cifar10_from_hub(split, HOW_TO)
    else:
        images, labels = _read(data, split)
    return ArraySplit("cifar10", split, images, labels, complete=len(images) == SIZES[split])


@lru_cache(maxsize=4)
def _read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. {HOW_TO}")
    files = sorted(folder.rglob(f"{split}-*.parquet"))
    if files:
        return _from_parquet(files)
    if (folder / "cifar-10-batches-py").is_dir():
        return _from_batches(folder, split)
    raise DataError(f"{folder} holds no CIFAR-10 {split} split. {HOW_TO}")


def _from_parquet(files: list[Path]) -> tuple[Tensor, Tensor]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = pyarrow.concat_tables([parquet.read_table(file, columns=["img", "label"]) for file in files])
        encoded = table.column("img").combine_chunks().field("bytes").to_pylist()
        labels = torch.from_numpy(table.column("label").to_numpy().astype(np.int64))
        with ThreadPoolExecutor() as pool:
            pixels = np.stack(list(pool.map(_decode, encoded)))
    except (pyarrow.ArrowException, KeyError, OSError, UnidentifiedImageError) as error:
        raise DataError(f"{files[0]} is no CIFAR-10 parquet file, or damaged ({error}). {HOW_TO}") from error
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def _decode(encoded: bytes) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _from_batches(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(folder), train=split == "train")
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise DataError(f"torchvision can't read CIFAR-10 in {folder} ({error}). {HOW_TO}") from error
    return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)
