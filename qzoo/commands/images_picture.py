"""A picture of the images that ranges were made from without data, beside them."""

from __future__ import annotations

from pathlib import Path

import torch

from qzoo.data import ArraySplit
from qzoo.data_free.picture import write_grid
from qzoo.tasks.inputs.images import Images


def picture_path(artifact: Path) -> Path:
    """Returns where the picture of the images lies that an artifact was made from without data: beside it.

    Example:
        >>> picture_path(Path("resnet50_int8.ranges.safetensors")).name
        'resnet50_int8.images.png'
    """
    return artifact.with_name(artifact.name.partition(".")[0] + ".images.png")


def keep_picture(artifact: Path, images: Images) -> None:
    """Writes what the images look like that an artifact was made from without data; of others nothing is written."""
    if images.source != "images" and isinstance(images.split, ArraySplit):
        write_grid(picture_path(artifact), images.split.images[torch.tensor(images.indices)])
