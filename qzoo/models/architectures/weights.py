"""Float weights of qzoo's own architectures: where they are, and the input transform that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qzoo.errors import UnknownNameError, did_you_mean, shown

AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


@dataclass(frozen=True)
class FloatWeights:
    """A file of float weights and what it expects of its input, like timm's `pretrained_cfg`.

    Attributes:
        file: its public name.
        mean: the mean of each channel, for pixels in 0..1.
        std: standard deviation of each channel.
        input_size: channels, height, width.
        classes: the name of each class.
        prefix: what every key of the file begins with.
        url: where it can be downloaded.
        sha256: the SHA-256 of the file.
        packaged: path among the shipped recipes, for weights that come with qzoo.
        note: who made them.
        license: by the hub's short name.
    """

    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int, int]
    classes: tuple[str, ...]
    prefix: str = ""
    url: str | None = None
    sha256: str | None = None
    packaged: str | None = None
    note: str = ""
    license: str | None = None

    def strip(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the state dict without the prefix."""
        return {key.removeprefix(self.prefix): value for key, value in state.items()}


def _cifar(depth: int, sha256: str) -> FloatWeights:
    file = f"resnet{depth}-{sha256[:8]}.th"
    return FloatWeights(
        file,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        input_size=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        prefix="module.",
        url=AKAMASTER + file,
        sha256=sha256,
        note="trained by Y. Idelbayev",
        license="bsd-2-clause",
    )


WEIGHTS: dict[str, dict[str, FloatWeights]] = {
    "resnet20_cifar10": {"akamaster": _cifar(20, "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8")},
    "resnet32_cifar10": {"akamaster": _cifar(32, "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850")},
    "resnet44_cifar10": {"akamaster": _cifar(44, "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4")},
    "resnet56_cifar10": {"akamaster": _cifar(56, "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367")},
    "resnet8_digits": {
        "v1": FloatWeights(
            "resnet8_digits.safetensors",
            mean=(0.5,),
            std=(0.5,),
            input_size=(1, 8, 8),
            classes=tuple("0123456789"),
            sha256="85d5e12291b124d11a1b9c8ce8816dc5fa6d8b633ca29dc2c06cf20cd874ddd2",
            packaged="digits/resnet8_digits.safetensors",
            note="trained by recipes/digits/train_resnet8_digits.py",
            license="apache-2.0",
        )
    },
}


def find_weights(architecture: str, tag: str | None = None) -> FloatWeights:
    """Returns the entry of an architecture's weights; without a tag the first.

    Raises:
        UnknownNameError: there are none, or none of that tag.
    """
    known = WEIGHTS.get(architecture, {})
    if not known:
        raise UnknownNameError(
            f"There are no float weights for '{architecture}'. {did_you_mean(architecture, WEIGHTS)}",
            field=("base", "weights"),
        )
    if tag is not None and tag not in known:
        advice = did_you_mean(tag, known)
        raise UnknownNameError(f"'{architecture}' has no weights '{shown(tag)}'. {advice}", field=("base", "weights"))
    return known[tag] if tag else next(iter(known.values()))


def transform_of(weights: FloatWeights) -> Any:
    """Returns the transform from uint8 images, PIL or `(N, C, H, W)`, to normalized float32 tensors."""
    from torchvision.transforms import v2  # takes seconds, and a model alone needs no transform

    return v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(weights.mean), list(weights.std)),
            v2.ToPureTensor(),
        ]
    )
