"""From an image file, or its bytes, to pixels; small images are kept encoded in memory until they are first asked for.

A calibration needs a thousand of the fifty thousand training images; decoding them all would take longer than the rest.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qzoo.errors import DataError


def decode_rgb(source: str | BinaryIO, what: str) -> Image.Image:
    """Returns an image in RGB.

    Args:
        source: a path, or the opened file.
        what: for the message.

    Raises:
        DataError: it is damaged, or no image.
    """
    try:
        with Image.open(source) as image:
            return image.convert("RGB")
    except Exception as error:  # each of Pillow's decoders fails in its own way
        raise DataError(f"{what} is no image, or damaged ({error}). Remove it or fetch it again.") from error


class EncodedImages:
    """Images of one size, indexed like a uint8 tensor `(N, 3, H, W)`; each is decoded once.

    Args:
        encoded: PNG, WebP or JPEG files.
        size: height and width of every image.
        where: the file they are from, for messages.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (32, 32), "white").save(buffer, "PNG")
        >>> EncodedImages([buffer.getvalue()], (32, 32), "test.parquet")[torch.tensor([0])].shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, encoded: Sequence[bytes], size: tuple[int, int], where: str) -> None:
        self.encoded, self.size, self.where = encoded, size, where
        # Pages of an untouched `empty` cost no memory, so the whole split may have its place from the start.
        self._pixels = torch.empty((len(encoded), 3, *size), dtype=torch.uint8)
        self._decoded = torch.zeros(len(encoded), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the images at the indices, int64 `(n,)`, as uint8 `(n, 3, H, W)`.

        Raises:
            DataError: an image is damaged or of another size.
        """
        wanted = indices.reshape(-1)
        missing = wanted[~self._decoded[wanted]].unique().tolist()
        if missing:
            with ThreadPoolExecutor() as pool:
                pixels = np.stack(list(pool.map(self._decode, missing)))
            self._pixels[missing] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            self._decoded[missing] = True
        return self._pixels[indices]

    def _decode(self, index: int) -> np.ndarray:
        pixels = np.asarray(decode_rgb(io.BytesIO(self.encoded[index]), f"Image {index} of {self.where}"))
        if pixels.shape[:2] != self.size:
            height, width = pixels.shape[:2]
            raise DataError(
                f"Image {index} of {self.where} has {height}x{width} pixels, expected {self.size[0]}x{self.size[1]}: "
                "it is another dataset. Look at --data or QZOO_DATA."
            )
        return pixels
