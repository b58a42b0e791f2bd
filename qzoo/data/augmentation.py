"""The random transforms of training, seeded per image: a batch has the same pixels whatever its size or worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """A random transform whose random numbers come from `(seed, index)` alone.

    Attributes:
        transform: draws from torch's global generator, as all of torchvision's do.
        seed: another seed, another draw for every image.
    """

    transform: Any
    seed: int = 0

    def __call__(self, image: Any, index: int) -> Tensor:
        """Returns the transformed image number `index`; torch's global generator is left as it was."""
        # Only the CPU's generator: torch.manual_seed would reset those of the accelerators too.
        generator, state = torch.default_generator, torch.get_rng_state()
        try:
            generator.manual_seed(image_seed(self.seed, index))
            return self.transform(image)  # type: ignore[no-any-return]
        finally:
            torch.set_rng_state(state)


def image_seed(seed: int, index: int) -> int:
    """Returns the 63-bit seed of an image; neighbours have unrelated ones.

    Example:
        >>> image_seed(0, 1) == image_seed(0, 1) != image_seed(1, 0)
        True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "little") >> 1


def cropped_by_area(size: int, interpolation: str) -> list[Any]:
    """Returns the moves of large photographs: a crop of 8-100 % of the area, mirrored at random.

    Source: Szegedy et al. 2014 (arXiv 1409.4842), section 6.
    """
    from torchvision.transforms import InterpolationMode, v2  # takes seconds, and few runs augment

    crop = v2.RandomResizedCrop(size, interpolation=InterpolationMode(interpolation), antialias=True)
    return [crop, v2.RandomHorizontalFlip()]
