"""Batches of a split, in worker processes where decoding is the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qzoo.data.split import Split
from qzoo.errors import DataError


class _Batches(Dataset[tuple[Tensor, Tensor] | DataError]):
    def __init__(self, split: Split, transform: Any, batches: list[list[int]]) -> None:
        self.split, self.transform, self.batches = split, transform, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor] | DataError:
        indices = self.batches[position]
        try:
            return self.split.batch(indices, self.transform), self.split.labels[indices]
        except DataError as error:
            # Raised in a worker it would reach the user wrapped in the worker's traceback.
            return error


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

    Raises:
        DataError: an image is damaged, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise DataError(f"A batch of {batch_size} images is asked for. Give a batch size of 1 or more.")
    order = list(range(len(split)) if indices is None else indices)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    # A generator of its own: DataLoader would otherwise draw from torch's global one, and move a training's dice.
    own = torch.Generator()
    for batch in DataLoader(_Batches(split, transform, batches), batch_size=None, num_workers=workers, generator=own):
        if isinstance(batch, DataError):
            raise batch
        yield batch
