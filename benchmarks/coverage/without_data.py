"""Ranges of a model that are made without an image, of batch norm's statistics where there are any."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.models.base_model import InputFormat
from qzoo.quant.inputs import tensors
from qzoo.quant.ranges import get_ranges
from qzoo.schema.calibration import Source
from qzoo.tasks.inputs.data_free import data_free_images
from qzoo.tasks.inputs.images import Images

IMAGES, CHECKED = 2, 16
"""Images that ranges are made from, and those that a check takes."""
SLOW = 0.5
"""CPU seconds of a calibration from which on a model is not checked besides, which takes dozens of times as long."""


class Impossible(Exception):
    """A range that is no positive number."""


def calibrate_without_data(model: nn.Module, size: int) -> str:
    """Gives a quantized model ranges, in place, and checks them as `qzoo check` does; returns what they are made from.

    A large model is not checked, which is said besides.

    Args:
        model: calibrated on images, with random weights; scales of batch norms and what they remember are moved, as
            training would.
        size: height and width of its images.

    Raises:
        Impossible: a range is not finite, or not above 0 although something came by on those images.
    """
    on_images = get_ranges(model)
    _perturb(model)
    try:
        source, seconds = "statistics", _calibrate(model, "statistics", size)
    except UnsupportedError:  # it has no batch norm
        source, seconds = "synthetic", _calibrate(model, "synthetic", size)
    _require_positive(model, on_images)
    if seconds > SLOW:
        return f"{source}, unchecked"
    # What a network gives need not be logits: that a check runs is what is asked.
    qzoo.check(model, _images("synthetic", size, CHECKED), logits=lambda output: tensors(output)[0].flatten(1))
    return source


def _calibrate(model: nn.Module, source: Source, size: int) -> float:
    start = time.process_time()
    qzoo.calibrate(model, _images(source, size, IMAGES))
    return time.process_time() - start


def _images(source: Source, size: int, images: int) -> Images:
    form = InputFormat(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return data_free_images(form, source, nn.Identity, images=images, batch_size=images)


def _perturb(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in (one for one in model.modules() if isinstance(one, _BatchNorm)):
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
        # Many are made with a scale of 0, behind which all is 0 until training.
        if norm.affine:
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)


def _require_positive(model: nn.Module, on_images: dict[str, Tensor]) -> None:
    for key, value in get_ranges(model).items():
        possible = value.isfinite() & ((value > 0) | (on_images[key] == 0))
        if key.endswith("amax") and not bool(possible.all()):
            raise Impossible(f"{key} is {float(value.min()):g} without data")
