"""A picture of images, to look at them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from qzoo.errors import ArgumentError
from qzoo.files import replacing

MOST_IMAGES, MOST_BYTES = 64, 500_000
"""Limits of a picture."""
GAP = 2
"""Pixels between images."""


def write_grid(path: str | Path, images: Tensor, columns: int = 8) -> None:
    """Writes images side by side as a PNG of at most 500 kB, in one step; it is made smaller until it fits.

    Args:
        path: the path of the file; its folders are made.
        images: uint8 `(N, C, H, W)`, of which the first 64 are shown; the first 3 channels, or the first alone as grey.
        columns: images in a row.

    Raises:
        ArgumentError: they are no such tensor, or there is none.
        OSError: the file can't be written.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or not images.numel():
        raise ArgumentError(
            f"Images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}; expected uint8 "
            "(N, C, H, W) of at least one pixel."
        )
    picture = Image.fromarray(grid(images[:MOST_IMAGES], columns).numpy())
    with replacing(path) as unfinished:
        picture.save(unfinished, "PNG", optimize=True)
        while unfinished.stat().st_size > MOST_BYTES:
            # The bytes of noise go with its area.
            factor = 0.95 * (MOST_BYTES / unfinished.stat().st_size) ** 0.5
            smaller = (max(1, int(side * factor)) for side in picture.size)
            picture = picture.resize((next(smaller), next(smaller)), Image.Resampling.BOX)
            picture.save(unfinished, "PNG", optimize=True)


def grid(images: Tensor, columns: int) -> Tensor:
    """Returns images side by side, row by row, with black lines of `GAP` pixels between them.

    Args:
        images: uint8 `(N, C, H, W)`.
        columns: images in a row; a picture of fewer is as wide as they are.

    Returns:
        uint8 `(height, width, 3)`.

    Example:
        >>> grid(torch.full((3, 1, 4, 4), 255, dtype=torch.uint8), columns=2).shape
        torch.Size([10, 10, 3])
    """
    colours = images[:, [0, 1, 2] if images.shape[1] >= 3 else [0, 0, 0]]
    count, _, height, width = colours.shape
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    sheet = torch.zeros(rows, columns, height + GAP, width + GAP, 3, dtype=torch.uint8)
    sheet.flatten(0, 1)[:count, :height, :width] = colours.permute(0, 2, 3, 1)
    return sheet.permute(0, 2, 1, 3, 4).reshape(rows * (height + GAP), -1, 3)[:-GAP, :-GAP].contiguous()
