"""Blocks that are recomputed in the backward pass get the same gradients, with quantizers at their operators too."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import qzoo
from qzoo.schema.finetune import Scales
from qzoo.training.scales import learn_scales


def gradients(model: nn.Module, x: torch.Tensor, checkpointing: bool) -> list[torch.Tensor]:
    model.set_grad_checkpointing(checkpointing)  # type: ignore[operator]
    model.train().zero_grad()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    torch.manual_seed(0)
    model(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.filterwarnings("ignore::qzoo.quant.calibration.collecting.DeadActivationWarning")
@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0"])
def test_gradients_are_those_without_checkpointing(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 96, 96)
    model = qzoo.calibrate(qzoo.quantize(timm.create_model(name).eval(), "int8_ort"), [x])
    ranges = learn_scales(model, Scales(), None)
    usual, recomputed = (gradients(model, x, checkpointing) for checkpointing in (False, True))
    assert len(usual) > len(ranges) > 20
    assert all(torch.equal(one, other) for one, other in zip(usual, recomputed, strict=True))
