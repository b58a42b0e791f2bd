"""How a dataset is read, and how its images are augmented in training: a reader in the file of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qzoo.data.split import Split


def cropped_by_area(size: int, interpolation: str) -> list[Any]:
    """Returns the moves of large photographs: a crop of 8-100 % of the area, mirrored at random.

    Source: Szegedy et al. 2014 (arXiv 1409.4842), section 6.
    """
    from torchvision.transforms import InterpolationMode, v2  # takes seconds, and few runs augment

    crop = v2.RandomResizedCrop(size, interpolation=InterpolationMode(interpolation), antialias=True)
    return [crop, v2.RandomHorizontalFlip()]


@dataclass(frozen=True)
class Reader:
    """What a file of a dataset has to give.

    Attributes:
        read: a split, from a folder; None: from where the dataset lies by itself, or from the hub.
        moves: the random transforms of training, for a height and width and an interpolation.
    """

    read: Callable[[str, Path | None], Split]
    moves: Callable[[int, str], list[Any]] = cropped_by_area
