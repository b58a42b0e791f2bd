"""Datasets from the Hugging Face hub, through the `datasets` library where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qzoo.data.parquet_images import imagenet_labels
from qzoo.data.split import EncodedSplit
from qzoo.data.synsets import imagenet_synsets
from qzoo.errors import DataError
from qzoo.redaction import redacted_logs
from qzoo.schema.datasets import CIFAR10, IMAGENET, Dataset


def cifar10_from_hub(split: str, how_to: str) -> tuple[Tensor, Tensor]:
    """Returns images, uint8 `(N, 3, 32, 32)`, and labels of a split.

    Raises:
        DataError: the library is not installed, or the hub can't be reached.
    """
    loaded = _loaded(CIFAR10, how_to, lambda library: library.load_dataset(CIFAR10.hub_id, split=split))
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in loaded["img"]])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(list(loaded["label"]))


def imagenet_from_hub(split: str, how_to: str) -> EncodedSplit:
    """Returns a split of the gated dataset; the library downloads it once (train 150 GB, val 7 GB) and maps its files.

    Raises:
        DataError: the library is not installed, the hub can't be reached, or its terms are not accepted.
    """
    loaded = _loaded(IMAGENET, how_to, lambda library: _load_imagenet(library, split))
    where, names = f"The hub dataset {IMAGENET.hub_id}", loaded.features["label"].names
    labels, classes = torch.tensor(imagenet_labels(list(loaded["label"]), names, where)), list(imagenet_synsets())
    complete = len(labels) == IMAGENET.splits[split]
    return EncodedSplit(IMAGENET.name, split, _HubImages(loaded), labels, classes, complete)


def _load_imagenet(library: Any, split: str) -> Any:
    name = IMAGENET.hub_split(split)
    # Only the files of this split: the library would fetch the others too, and miss them afterwards.
    files = {name: f"data/{name}-*.parquet"}
    loaded = library.load_dataset(IMAGENET.hub_id, split=name, data_files=files, verification_mode="no_checks")
    return loaded.cast_column("image", library.Image(decode=False))


def _loaded(dataset: Dataset, how_to: str, load: Callable[[Any], Any]) -> Any:
    try:
        import datasets
    except ImportError as error:
        missing = f"No data for {dataset.name}: QZOO_DATA is not set, and no --data is given."
        raise DataError(f"{missing} {how_to}") from error
    try:
        with redacted_logs():
            return load(datasets)
    except Exception as error:  # the library passes on whatever its network client raises
        problem = f"The hub dataset {dataset.hub_id} can't be loaded ({error}). {how_to}"
    # Not from the client's error, in which a token may stand.
    raise DataError(problem)


class _HubImages:
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> bytes:
        return self.rows[index]["image"]["bytes"]  # type: ignore[no-any-return]

    def where(self, index: int) -> str:
        """Returns the place of an image, for messages."""
        return f"Image {index} of the hub dataset {IMAGENET.hub_id}"
