"""Float weights of qzoo's own architectures: where they are, and the input transform that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from qzoo.errors import UnknownNameError, did_you_mean

AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


@dataclass(frozen=True)
class FloatWeights:
    """A file of float weights and what it expects of its input, like timm's `pretrained_cfg`.

    Attributes:
        file: its public name.
        mean: of each channel, for pixels in 0..1.
        std: likewise.
        prefix: what every key of the file begins with.
        url: where it can be downloaded.
        sha256: of the file, whole or its first digits.
        packaged: path among the shipped recipes, for weights that come with qzoo.
        note: who made them.
    """

    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prefix: str = ""
    url: str | None = None
    sha256: str | None = None
    packaged: str | None = None
    note: str = ""

    def strip(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the state dict without the prefix."""
        return {key.removeprefix(self.prefix): value for key, value in state.items()}


def _cifar(depth: int, digest: str) -> FloatWeights:
    file = f"resnet{depth}-{digest}.th"
    return FloatWeights(
        file, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "module.", AKAMASTER + file, digest,
        note="trained by Y. Idelbayev, BSD-2-Clause",
    )  # fmt: skip


WEIGHTS: dict[str, dict[str, FloatWeights]] = {
    "resnet20_cifar10": {"akamaster": _cifar(20, "12fca82f")},
    "resnet32_cifar10": {"akamaster": _cifar(32, "d509ac18")},
    "resnet44_cifar10": {"akamaster": _cifar(44, "014dd654")},
    "resnet56_cifar10": {"akamaster": _cifar(56, "4bfd9763")},
    "resnet8_digits": {
        "v1": FloatWeights(
            "resnet8_digits.safetensors", (0.5,), (0.5,), packaged="digits/resnet8_digits.safetensors",
            note="trained by recipes/digits/train_resnet8_digits.py",
        )
    },
}  # fmt: skip


def find_weights(architecture: str, tag: str | None = None) -> FloatWeights:
    """Returns the entry of an architecture's weights; without a tag the first.

    Raises:
        UnknownNameError: there are none, or none of that tag.
    """
    known = WEIGHTS.get(architecture, {})
    if not known:
        raise UnknownNameError(
            f"There are no float weights for '{architecture}'. {did_you_mean(architecture, WEIGHTS)}"
        )
    if tag is not None and tag not in known:
        raise UnknownNameError(f"'{architecture}' has no weights '{tag}'. {did_you_mean(tag, known)}")
    return known[tag] if tag else next(iter(known.values()))


def transform_of(weights: FloatWeights) -> Any:
    """Returns the transform from uint8 images, PIL or `(N, C, H, W)`, to normalized float32 tensors."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(weights.mean), list(weights.std)),
        ]
    )
