"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, inside the package, so they need no network.

Source: E. Alpaydin, C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from qzoo.data.split import ArraySplit

HELD_OUT = 597
"""Images of the test split; the other 1,200 are for training."""


def open_digits(split: str) -> ArraySplit:
    """Returns a split, uint8 `(N, 1, 8, 8)`, pixels scaled from 0..16 to 0..255; the same one on every machine."""
    images, labels = _digits()
    order = np.argsort(np.random.PCG64(0).random_raw(len(images)), kind="stable")
    chosen = torch.from_numpy(np.sort(order[HELD_OUT:] if split == "train" else order[:HELD_OUT]))
    return ArraySplit("digits", split, images[chosen], labels[chosen], tuple("0123456789"))


@cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(np.rint(raw.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    return images, torch.from_numpy(raw.target.astype(np.int64))
