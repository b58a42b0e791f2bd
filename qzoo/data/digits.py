"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, inside the package, so they need no network.

Source: E. Alpaydin, C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qzoo.data.lookup import Reader
from qzoo.data.split import ArraySplit
from qzoo.schema.datasets import DIGITS


def open_digits(split: str, data: Path | None = None) -> ArraySplit:
    """Returns a split, uint8 `(N, 1, 8, 8)`, pixels scaled from 0..16 to 0..255; the same one on every machine.

    Args:
        split: `train` or `test`.
        data: not looked at.
    """
    held_out = DIGITS.splits["test"]
    images, labels = _digits()
    order = np.argsort(np.random.PCG64(0).random_raw(len(images)), kind="stable")
    chosen = torch.from_numpy(np.sort(order[held_out:] if split == "train" else order[:held_out]))
    return ArraySplit(DIGITS.name, split, images[chosen], labels[chosen], tuple("0123456789"))


def moves(size: int, interpolation: str) -> list[Any]:
    """Returns the moves of training: a shift of a pixel at most."""
    from torchvision.transforms import v2

    return [v2.RandomCrop(size, padding=1)]


READER = Reader(open_digits, moves)


@cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(np.rint(raw.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    return images, torch.from_numpy(raw.target.astype(np.int64))
