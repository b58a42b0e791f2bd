"""Evaluation transforms of one's own models: what a transform expects and gives, and those that settings make."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from qzoo.errors import ArgumentError, UnsupportedError
from qzoo.models.base_model import InputFormat

PROBED = 256
"""Height and width of the images that a transform is tried on."""
IMAGENET = InputFormat(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What most classifiers of ImageNet were trained on."""
CROPPED = 0.875
"""How much of the shorter side their crop takes: 224 of 256."""


class DefaultTransformWarning(UserWarning):
    """Nothing says which transform a model of one's own was trained with, so images are prepared as for ImageNet."""


def default_transform(name: str) -> Any:
    """Returns the transform of most ImageNet classifiers.

    Args:
        name: of the model that says none, for the warning.

    Warns:
        DefaultTransformWarning: how to give another.
    """
    warnings.warn(
        f"Nothing says which transform {name} was trained with: images are resized to 256, cropped to 224 and "
        "normalized by ImageNet's mean and deviation. Give it: qzoo.register_model(..., transform=...), or an "
        "attribute `transform` of the factory or class.",
        DefaultTransformWarning,
        stacklevel=2,
    )
    return transform_of(IMAGENET, CROPPED)


def format_of_config(config: Mapping[str, Any]) -> InputFormat:
    """Returns what a `pretrained_cfg`, as timm's modules have it, says of images; what it leaves out is ImageNet's."""
    size = int(config.get("input_size", (3, IMAGENET.size))[-1])
    mean, std = (tuple(config.get(key, getattr(IMAGENET, key))) for key in ("mean", "std"))
    return InputFormat(size, mean, std, str(config.get("interpolation", IMAGENET.interpolation)))


def transform_of(form: InputFormat, crop: float = 1.0) -> Any:
    """Returns the evaluation transform of a format, from a PIL image or a uint8 tensor to float32 `(C, size, size)`.

    Args:
        form: size, mean, deviation, interpolation.
        crop: how much of the shorter side the crop in the middle takes.
    """
    from torchvision.transforms import InterpolationMode, v2  # takes seconds, and a model alone needs no transform

    resize = v2.Resize(round(form.size / crop), interpolation=InterpolationMode(form.interpolation), antialias=True)
    grey = [v2.Grayscale()] if len(form.mean) == 1 else []
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(form.mean), list(form.std)), v2.ToPureTensor()]
    return v2.Compose([v2.ToImage(), *grey, resize, v2.CenterCrop(form.size), *to_float])


def format_of_transform(transform: Any, name: str) -> InputFormat:
    """Returns what a transform makes of images: as its parts say, and else seen by giving it a black and a white one.

    Normalization is `(x - mean) / std` for each channel, so two images tell both.

    Args:
        transform: from a PIL image, or a uint8 tensor, to a float tensor `(C, H, W)`.
        name: of the model, for messages.

    Raises:
        ArgumentError: it takes no image, or gives no such tensor.
        UnsupportedError: its images are not square.
    """
    black, white = (_probed(transform, value, name) for value in (0, 255))
    height, width = black.shape[1:]
    if height != width:
        raise UnsupportedError(
            f"The transform of {name} gives images of {height}x{width}, and qzoo describes and augments square ones. "
            "Crop them to a square."
        )
    parts = (transform, *getattr(transform, "transforms", ()))
    said = next(((one.mean, one.std) for one in parts if _normalizes(one)), None)
    mean, std = said or _affine(black, white)
    return InputFormat(height, tuple(map(float, mean)), tuple(map(float, std)), _interpolation(parts))


def _affine(black: Tensor, white: Tensor) -> tuple[list[float], list[float]]:
    """Returns mean and deviation of each channel, as what became of a black and a white image shows them."""
    middle = (slice(None), black.shape[1] // 2, black.shape[2] // 2)
    low, high = black[middle].double(), white[middle].double()
    spread = torch.where(high > low, high - low, 1.0)
    # float32 holds 7 digits, of which the difference of two loses one.
    return [round(x, 5) for x in (-low / spread).tolist()], [round(x, 5) for x in (1 / spread).tolist()]


def _normalizes(part: Any) -> bool:
    return all(isinstance(getattr(part, name, None), list | tuple) for name in ("mean", "std"))


def _probed(transform: Any, value: int, name: str) -> Tensor:
    image = Image.new("RGB", (PROBED, PROBED), (value,) * 3)
    tensor = torch.full((3, PROBED, PROBED), value, dtype=torch.uint8)
    faults: list[Exception] = []
    for one in (image, tensor):
        try:
            made = transform(one)
        except Exception as error:  # a transform of the user's may raise anything
            faults.append(error)
            continue
        if isinstance(made, Tensor) and made.dim() == 3 and made.is_floating_point():
            return made
        given = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise ArgumentError(f"The transform of {name} gives {given}; expected a float tensor (C, H, W).")
    raise ArgumentError(
        f"The transform of {name} takes neither a PIL image ({type(faults[0]).__name__}: {faults[0]}) nor a uint8 "
        "tensor; expected one as of torchvision.transforms, to a float tensor (C, H, W)."
    ) from faults[0]


def _interpolation(parts: Iterable[Any]) -> str:
    """Returns the interpolation of a resize, where one of torchvision's is found; else bilinear, the default of all."""
    found = (getattr(getattr(one, "interpolation", None), "value", None) for one in parts)
    return next((value for value in found if isinstance(value, str)), IMAGENET.interpolation)
