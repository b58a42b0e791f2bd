"""Ranges found on images without data, beside those of photographs: the CIFAR-10 network with published weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.data_free.distill import distilled_images
from qzoo.data_free.distillation import normalized
from qzoo.data_free.natural_images import natural_images
from qzoo.models.base_model import InputFormat
from qzoo.models.bases import input_format
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.zoo.name_lookup import find

pytestmark = pytest.mark.slow
NAME = "resnet20_cifar10"


@pytest.fixture
def form(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> InputFormat:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    return input_format(find(NAME).base)


@pytest.fixture
def real(form: InputFormat, data_root: Path) -> Tensor:
    named = find(f"{NAME}_int8")
    return ranges(calibration_images(named.base, named.dataset, named.resolved.calibration, data_root, images=256))


def ranges(batches: Iterator[Tensor] | object) -> Tensor:
    """Logarithms, to base 2, of the ranges of all inputs."""
    model = qzoo.create(f"{NAME}_int8", pretrained="float")
    qzoo.calibrate(model, batches)
    return torch.stack([value for key, value in model.named_buffers() if key.endswith("input_quantizer.amax")]).log2()


def off(images: Tensor, form: InputFormat, real: Tensor) -> tuple[float, float]:
    """Mean and deviation, over inputs, of how many times a range has to be doubled to be that of photographs."""
    ratios = ranges([normalized(part / 255, form) for part in images.split(64)]) - real
    return float(ratios.mean()), float(ratios.std())


def test_ranges_of_natural_images_are_near_those_of_photographs(form: InputFormat, real: Tensor) -> None:
    mean, deviation = off(natural_images(256, form.size), form, real)
    assert abs(mean) < 0.15
    assert deviation < 0.6


def test_ranges_of_distilled_images_are_nearer(form: InputFormat, real: Tensor) -> None:
    images = distilled_images(qzoo.create(NAME, pretrained=True), 64, form, steps=20)
    mean, deviation = off(images, form, real)
    assert abs(mean) < 0.15
    assert deviation < 0.25
