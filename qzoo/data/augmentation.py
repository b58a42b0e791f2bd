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


def train_transform(
    dataset: str,
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str = "bilinear",
    seed: int = 0,
) -> Augmentation:
    """Returns the training transform of a dataset, from a uint8 image to a normalized float32 tensor `(C, size, size)`.

    Digits are shifted by a pixel at most; CIFAR-10 is shifted by four and mirrored; anything else is cropped to 8-100 %
    of its area and mirrored.

    Args:
        dataset: its name.
        size: height and width of the input.
        mean: of each channel, for pixels in 0..1.
        std: standard deviation of each channel.
        interpolation: of the crop: `bilinear`, `bicubic`, `nearest` ...
        seed: of the augmentation.

    Source:
        He et al. 2015 (arXiv 1512.03385), section 4.2, for CIFAR-10; Szegedy et al. 2014 (arXiv 1409.4842), section 6,
        for the crop by area.
    """
    from torchvision.transforms import InterpolationMode, v2  # takes seconds, and few runs augment

    if dataset == "digits":
        moves = [v2.RandomCrop(size, padding=1)]
    elif dataset == "cifar10":
        moves = [v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()]
    else:
        crop = v2.RandomResizedCrop(size, interpolation=InterpolationMode(interpolation), antialias=True)
        moves = [crop, v2.RandomHorizontalFlip()]
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
    return Augmentation(v2.Compose([v2.ToImage(), *moves, *to_float]), seed)
