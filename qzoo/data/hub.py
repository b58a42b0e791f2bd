"""Datasets from the Hugging Face hub, through the `datasets` library where it is installed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qzoo.errors import DataError


def cifar10_from_hub(split: str, how_to: str) -> tuple[Tensor, Tensor]:
    """Returns images, uint8 `(N, 3, 32, 32)`, and labels of a split.

    Raises:
        DataError: the library is not installed, or the hub can't be reached.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(f"No data for cifar10: QZOO_DATA is not set, and no --data is given. {how_to}") from error
    try:
        loaded = load_dataset("uoft-cs/cifar10", split=split)
    except Exception as error:  # the library passes on whatever its network client raises
        raise DataError(f"The hub dataset uoft-cs/cifar10 can't be loaded ({error}). {how_to}") from error
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in loaded["img"]])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(list(loaded["label"]))
