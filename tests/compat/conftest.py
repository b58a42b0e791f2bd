"""Models that a script of pytorch-quantization would have calibrated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import qzoo
from qzoo.compat.pytorch_quantization import calib, quant_modules
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.residual import add_residual_quantizers
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from tests.runtimes.conftest import digits


def made_by_a_script(make: Callable[[], nn.Module], batches: Iterable[Tensor], *, residual: bool = False) -> nn.Module:
    """Returns a model as the ResNet-50 tutorial calibrates it: histograms of inputs, percentile 99.99."""
    classes: tuple[Any, ...] = (quant_nn.QuantConv2d, quant_nn.QuantLinear)
    before = [one.default_quant_desc_input for one in classes]
    quant_modules.initialize()
    try:
        for one in classes:
            one.set_default_quant_desc_input(QuantDescriptor(calib_method="histogram"))
        model = make().eval()
        if residual:
            add_residual_quantizers(model)
    finally:
        quant_modules.deactivate()
        for one, desc in zip(classes, before, strict=True):
            one.set_default_quant_desc_input(desc)
    _calibrate(model, batches)
    return model


def _calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    quantizers = [one for one in model.modules() if isinstance(one, quant_nn.TensorQuantizer)]
    for one in quantizers:
        one.disable_quant()
        one.enable_calib()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for one in quantizers:
        by_max = isinstance(one._calibrator, calib.MaxCalibrator)
        one.load_calib_amax(**({} if by_max else {"method": "percentile", "percentile": 99.99}))
        one.enable_quant()
        one.disable_calib()


def resnet18() -> nn.Module:
    """Returns torchvision's, with weights of a fixed seed."""
    torch.manual_seed(0)
    return models.resnet18()


def images(count: int = 4, size: int = 64) -> Tensor:
    """Returns random images of a fixed seed."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def scripted_resnet18() -> nn.Module:
    """A ResNet-18 of torchvision with the 41 quantizers that `initialize` gives it."""
    return made_by_a_script(resnet18, [images()])


@pytest.fixture(scope="session")
def scripted_digits() -> nn.Module:
    """The float base of the digits recipe, with its real weights, calibrated on real images."""
    return made_by_a_script(lambda: qzoo.create("resnet8_digits", pretrained=True), [digits(512)])
