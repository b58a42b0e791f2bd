"""Batches of a split, in worker processes where decoding is the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qzoo.data.split import Split


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, split: Split, transform: Any, batches: list[list[int]]) -> None:
        self.split, self.transform, self.batches = split, transform, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        indices = self.batches[position]
        return self.split.batch(indices, self.transform), self.split.labels[indices]


def loader(
    split: Split, transform: Any, batch_size: int, indices: Sequence[int] | None = None, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches `(x, y)`: x float32 `(N, C, H, W)`, y int64 `(N,)`.

    Args:
        split: the images.
        transform: from a uint8 batch or a PIL image to float32; or an `Augmentation`.
        batch_size: images a batch; the last may be smaller.
        indices: which images, in order; default: all.
        workers: processes that decode; 0 decodes here.
    """
    order = list(range(len(split)) if indices is None else indices)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    # A generator of its own: DataLoader would otherwise draw from torch's global one, and move a training's dice.
    own = torch.Generator()
    yield from DataLoader(_Batches(split, transform, batches), batch_size=None, num_workers=workers, generator=own)
