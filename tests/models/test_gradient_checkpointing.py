"""Blocks that are recomputed in the backward pass get the same gradients, with quantizers at their operators too."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

import qzoo
from qzoo.schema.finetune import Scales
from qzoo.training.scales import learn_scales
from tests.each import for_each


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


class Twice(nn.Module):
    """Calls a block twice in each pass."""

    def __init__(self, block: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block, self.reentrant, self.recomputes = block, reentrant, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._call(20 * self._call(x))

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.block, x, use_reentrant=self.reentrant) if self.recomputes else self.block(x)


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


@for_each(("block", "reentrant"), [(block, reentrant) for block in (Adds, Attends) for reentrant in (False, True)])
def test_each_call_of_a_block_is_recomputed_with_its_own_quantizers(block: type[nn.Module], reentrant: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 8, requires_grad=True)
    model = qzoo.quantize(Twice(block(), reentrant).eval(), "int8_vit", residual="skip", example=x.detach())
    qzoo.calibrate(model, [x.detach()])
    found = []
    for model.recomputes in (False, True):
        model.zero_grad()
        model(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
