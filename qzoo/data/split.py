"""A split of a dataset: labelled images, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qzoo.errors import DataError


class Split(Protocol):
    """What every dataset gives.

    Attributes:
        dataset: its name.
        name: of the split.
        complete: whether it holds all images that published figures are measured on.
        labels: int64 `(len,)`.
    """

    dataset: str
    name: str
    complete: bool
    labels: Tensor

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32 `(len(indices), C, H, W)`."""

    def content(self, index: int) -> bytes:
        """Returns what an image's digest is taken over."""


@dataclass(frozen=True)
class ArraySplit:
    """A split that lies in memory as uint8 `(N, C, H, W)`; whole batches are transformed at once."""

    dataset: str
    name: str
    images: Tensor
    labels: Tensor
    complete: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32."""
        return transform(self.images[torch.as_tensor(indices)])  # type: ignore[no-any-return]

    def content(self, index: int) -> bytes:
        """Returns the pixels."""
        return self.images[index].numpy().tobytes()


@dataclass(frozen=True)
class FileSplit:
    """A split of image files, decoded when they are asked for."""

    dataset: str
    name: str
    files: Sequence[Path]
    labels: Tensor
    complete: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32.

        Raises:
            DataError: a file can't be decoded.
        """
        return torch.stack([transform(self.image(index)) for index in indices])

    def image(self, index: int) -> Image.Image:
        """Returns one image, RGB."""
        try:
            with Image.open(self.files[index]) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise DataError(
                f"{self.files[index]} is no image, or damaged ({error}). Remove it or fetch it again."
            ) from error

    def content(self, index: int) -> bytes:
        """Returns the bytes of the file."""
        return self.files[index].read_bytes()


def sample(split: Split, images: int, seed: int) -> list[int]:
    """Returns the indices of a seeded sample without repetition, in random order; the same on every machine.

    Raises:
        DataError: the split holds fewer images.

    Example:
        >>> sample(open_split("digits", "train"), 3, seed=0)  # doctest: +SKIP
        [1002, 417, 64]
    """
    if images > len(split):
        raise DataError(
            f"{images:,} images are asked for, but {split.dataset} {split.name} holds {len(split):,}. Ask for fewer."
        )
    # A fixed bit generator and sorting keys: NumPy guarantees the stream of PCG64, not of its permutations.
    keys = np.random.PCG64(seed).random_raw(len(split))
    return [int(index) for index in np.argsort(keys, kind="stable")[:images]]


def sample_digest(split: Split, indices: Sequence[int]) -> str:
    """Returns the SHA-256 over the images at the indices, in order."""
    digest = hashlib.sha256()
    for index in indices:
        digest.update(hashlib.sha256(split.content(index)).digest())
    return digest.hexdigest()
