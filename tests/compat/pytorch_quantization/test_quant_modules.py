"""Replacing torch's layers, and residual quantizers on models whose code nobody touches."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torchvision import models

from qzoo.compat.pytorch_quantization import deactivate, enable_onnx_export, initialize, quant_modules
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.quant_modules import QuantModuleReplacementHelper
from qzoo.compat.pytorch_quantization.residual import add_residual_quantizers
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.errors import UnsupportedError

ORIGINALS = {name: getattr(nn, name) for name in quant_modules.REPLACED}


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    yield
    deactivate()
    assert {name: getattr(nn, name) for name in ORIGINALS} == ORIGINALS


def quantizer_paths(model: nn.Module) -> list[str]:
    return [path for path, one in model.named_modules() if isinstance(one, quant_nn.TensorQuantizer)]


@pytest.mark.parametrize("name", quant_modules.REPLACED)
def test_layers_are_replaced_and_put_back(name: str) -> None:
    initialize()
    assert getattr(nn, name) is getattr(quant_nn, f"Quant{name}")
    deactivate()
    assert getattr(nn, name) is ORIGINALS[name]


def test_some_stay_float_and_others_are_added(caplog: pytest.LogCaptureFixture) -> None:
    initialize(["Linear"], [(nn, "MaxPool2d", quant_nn.QuantMaxPool2d)])
    assert nn.Linear is ORIGINALS["Linear"]
    assert nn.MaxPool2d is quant_nn.QuantMaxPool2d
    deactivate()
    assert not issubclass(nn.MaxPool2d, quant_nn.QuantMaxPool2d)
    initialize(["Linear"], [(nn, "Linear", quant_nn.QuantLinear)])  # what is added wins
    assert nn.Linear is quant_nn.QuantLinear
    with caplog.at_level(logging.WARNING):
        initialize(["Conv2D"])
    assert "float_module_list: 'Conv2D' is float anyway. Did you mean 'Conv2d'?" in caplog.text


def test_twice_is_once() -> None:
    initialize()
    initialize()
    deactivate()
    assert nn.Conv2d is ORIGINALS["Conv2d"]


def test_a_helper_of_ones_own() -> None:
    helper = QuantModuleReplacementHelper()
    helper.prepare_state()
    helper.apply_quant_modules()
    try:
        assert type(nn.Linear(16, 256, True)) is quant_nn.QuantLinear
        assert type(nn.Conv2d(16, 256, 3)) is quant_nn.QuantConv2d
    finally:
        helper.restore_float_modules()


def test_resnet50_has_the_quantizers_of_the_tutorial() -> None:
    initialize()
    with torch.device("meta"):
        model = models.resnet50()
    deactivate()
    found = quantizer_paths(model)
    assert sum(path.endswith("_input_quantizer") for path in found) == 55
    assert sum(path.endswith("_weight_quantizer") for path in found) == 54
    added = add_residual_quantizers(model)
    assert len(added) == 16
    assert added[0] == "layer1.0.residual_quantizer"
    assert len(quantizer_paths(model)) == 125


class TestResidual:
    @staticmethod
    def resnet18() -> nn.Module:
        initialize()
        model = models.resnet18(num_classes=10).eval()
        deactivate()
        return model

    def test_with_quantizers_off_nothing_changes(self) -> None:
        model, x = self.resnet18(), torch.randn(2, 3, 64, 64)
        for one in model.modules():
            if isinstance(one, quant_nn.TensorQuantizer):
                one.disable()
        before = model(x)
        for path in add_residual_quantizers(model):
            model.get_submodule(path).disable()
        assert torch.equal(model(x), before)

    def test_the_skip_branch_is_quantized_and_named_as_in_the_tutorial(self) -> None:
        model = self.resnet18()
        paths = add_residual_quantizers(model, QuantDescriptor(amax=0.001))
        seen = []
        model.get_submodule(paths[1]).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        into: list[torch.Tensor] = []
        model.layer1[1].register_forward_pre_hook(lambda _, args: into.append(args[0]))  # type: ignore[index, operator, union-attr]
        model(torch.randn(1, 3, 64, 64))
        assert seen[0] is into[0]  # the identity
        assert "layer1.1.residual_quantizer._amax" in model.state_dict()

    def test_quantizers_that_were_off_stay_off(self) -> None:
        model = self.resnet18()
        model.conv1.input_quantizer.disable()  # type: ignore[operator, union-attr]
        add_residual_quantizers(model)
        off = [p for p in quantizer_paths(model) if model.get_submodule(p)._disabled]
        assert off == ["conv1._input_quantizer"]

    def test_they_take_the_default_of_convolutions(self) -> None:
        before = quant_nn.QuantConv2d.default_quant_desc_input
        quant_nn.QuantConv2d.set_default_quant_desc_input(QuantDescriptor(num_bits=4))
        try:
            model = models.resnet18(num_classes=10)
            assert model.get_submodule(add_residual_quantizers(model)[0]).num_bits == 4
        finally:
            quant_nn.QuantConv2d.set_default_quant_desc_input(before)

    def test_mistakes(self) -> None:
        model = self.resnet18()
        add_residual_quantizers(model)
        with pytest.raises(UnsupportedError, match=r"residual quantizers already, such as layer1.0.residual_quantizer"):
            add_residual_quantizers(model)
        with pytest.raises(UnsupportedError, match="AlexNet has no residual addition: nothing to quantize"):
            add_residual_quantizers(models.alexnet())


def test_the_export_context_is_left_even_after_an_error() -> None:
    def fail() -> None:
        with enable_onnx_export():
            assert quant_nn.TensorQuantizer._enable_onnx_export
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not quant_nn.TensorQuantizer._enable_onnx_export
