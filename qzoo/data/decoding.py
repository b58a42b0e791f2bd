"""From an image file, or its bytes, to pixels."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

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
