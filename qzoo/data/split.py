"""A split of a dataset: labelled images, in memory or on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qzoo.data.augmentation import Augmentation
from qzoo.data.encoded import EncodedImages, decode_rgb
from qzoo.errors import DataError

LABEL_KEYS = ("labels", "label")
"""Under these a dict holds its labels: an element of a dataset, or a batch, all else of which the model is given."""


class Split(Protocol):
    """What every dataset gives.

    Attributes:
        dataset: its name.
        name: the name of the split.
        complete: whether it holds all images that published figures are measured on.
        labels: int64 `(len,)`.
        classes: the name of each class.
    """

    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102
    @property
    def classes(self) -> Sequence[str]: ...  # noqa: D102

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
    images: Tensor | EncodedImages
    labels: Tensor
    classes: Sequence[str] = ()
    complete: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32."""
        pixels = self.images[torch.as_tensor(list(indices), dtype=torch.int64)]
        if isinstance(transform, Augmentation):
            return _stacked(transform, zip(indices, pixels, strict=True))
        return transform(pixels)  # type: ignore[no-any-return]

    def content(self, index: int) -> bytes:
        """Returns the pixels."""
        return self.images[torch.tensor([index])].numpy().tobytes()


@dataclass(frozen=True)
class FileSplit:
    """A split of image files, decoded when they are asked for."""

    dataset: str
    name: str
    files: Sequence[str]
    labels: Tensor
    classes: Sequence[str] = ()
    complete: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32.

        Raises:
            DataError: a file can't be decoded.
        """
        return _stacked(transform, ((index, self.image(index)) for index in indices))

    def image(self, index: int) -> Image.Image:
        """Returns one image, RGB."""
        return decode_rgb(self.files[index], self.files[index])

    def content(self, index: int) -> bytes:
        """Returns the bytes of the file."""
        return Path(self.files[index]).read_bytes()


class Store(Protocol):
    """Encoded images, read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...

    def where(self, index: int) -> str:
        """Returns the place of an image, for messages."""


@dataclass(frozen=True)
class EncodedSplit:
    """A split of encoded images in a store, read and decoded when they are asked for."""

    dataset: str
    name: str
    images: Store
    labels: Tensor
    classes: Sequence[str] = ()
    complete: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the transformed images, float32.

        Raises:
            DataError: an image can't be read or decoded.
        """
        # Read in the order of the store, which holds neighbours together.
        encoded = {index: self.content(index) for index in sorted(set(indices))}
        return _stacked(transform, ((index, self._decode(index, encoded[index])) for index in indices))

    def image(self, index: int) -> Image.Image:
        """Returns one image, RGB."""
        return self._decode(index, self.content(index))

    def content(self, index: int) -> bytes:
        """Returns the bytes of the encoded image."""
        return self.images[index]

    def _decode(self, index: int, encoded: bytes) -> Image.Image:
        return decode_rgb(io.BytesIO(encoded), self.images.where(index))


def _stacked(transform: Any, images: Iterable[tuple[int, Any]]) -> Tensor:
    if isinstance(transform, Augmentation):
        return torch.stack([transform(image, index) for index, image in images])
    return torch.stack([transform(image) for _, image in images])


def sample(split: Split, images: int, seed: int) -> list[int]:
    """Returns the indices of a seeded sample without repetition, in random order; the same on every machine.

    Raises:
        DataError: the split holds fewer images, or fewer than one is asked for.

    Example:
        >>> from qzoo.data import open_split
        >>> sample(open_split("digits", "train"), 3, seed=0)
        [855, 921, 269]
    """
    if not 1 <= images <= len(split):
        raise DataError(
            f"{images:,} images are asked for, but {split.dataset} {split.name} holds {len(split):,}. "
            f"Ask for 1 to {len(split):,}, or give a larger folder with --data."
        )
    # A fixed bit generator and sorting keys: NumPy guarantees the stream of PCG64, not of its permutations.
    keys = np.random.PCG64(seed).random_raw(len(split))
    return [int(index) for index in np.argsort(keys, kind="stable")[:images]]


def sample_digest(split: Split, indices: Sequence[int]) -> str:
    """Returns the SHA-256 over the indices and the images at them, in order."""
    # Read in the order of the split, which on disk holds neighbours together.
    of_image = {index: hashlib.sha256(split.content(index)).digest() for index in sorted(set(indices))}
    digest = hashlib.sha256()
    for index in indices:
        digest.update(index.to_bytes(8, "little") + of_image[index])
    return digest.hexdigest()
