"""Images of a split as small pictures, and the names of its classes as people say them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageOps

from qzoo.data.split import ArraySplit, Split
from qzoo.data.synsets import imagenet_synsets, imagenet_words, is_wordnet_id
from qzoo.errors import DataError

SIDE = 112
"""Pixels of a picture's sides."""
QUALITY = 72


def thumbnail(split: Split, index: int) -> bytes:
    """Returns an image of a split as a square WebP of a few kB; nothing where the split does not show its images.

    Small images are enlarged by whole pixels, so that they stay as they are; of others the middle is shown.

    Example:
        >>> from qzoo.data import open_split
        >>> thumbnail(open_split("digits", "test"), 0)[8:12]
        b'WEBP'
    """
    image = _image(split, index)
    if image is None:
        return b""
    if max(image.size) <= SIDE // 2:
        factor = SIDE // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


def _image(split: Split, index: int) -> Image.Image | None:
    if isinstance(split, ArraySplit):
        pixels = split.images[torch.tensor([index])][0]
        channels = pixels if pixels.shape[0] == 3 else pixels[:1].expand(3, -1, -1)
        return Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())
    show: Any = getattr(split, "image", None)
    try:
        return None if show is None else show(index)
    except DataError:
        return None


def class_title(classes: Sequence[str], index: int) -> str:
    """Returns what a class is called: its name, for a WordNet id its first word, or its number where it has no name.

    Example:
        >>> class_title(["cat", "dog"], 1), class_title([], 1), class_title(["n01440764"], 0)
        ('dog', 'class 1', 'tench')
    """
    name = classes[index] if 0 <= index < len(classes) else f"class {index}"
    known = imagenet_synsets().get(name) if is_wordnet_id(name) else None
    return name if known is None else imagenet_words()[known]
