from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import FinetuneSpec, Scales
from qzoo.training.optimizer import make_optimizer, optimizer_tensors, parameter_groups, restore_optimizer
from qzoo.training.scales import learn_scales


def learned() -> nn.Module:
    model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
    learn_scales(model, Scales(), None)
    return model


def test_ranges_norms_and_biases_do_not_decay() -> None:
    model = learned()
    decaying, others = parameter_groups(model, 0.01)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    weights = {f"{name}.weight" for name, one in model.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)}
    assert {names[id(parameter)] for parameter in decaying["params"]} == weights
    assert {names[id(parameter)] for parameter in others["params"]} == set(names.values()) - weights


def test_what_is_frozen_is_left_out() -> None:
    model = learned()
    model.conv1.weight.requires_grad_(False)
    given = {id(parameter) for group in parameter_groups(model, 0.1) for parameter in group["params"]}
    assert id(model.conv1.weight) not in given


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("fields", [{"optimizer": "sgd"}, {"optimizer": "adamw"}, {"optimizer": "sgd", "momentum": 0}])
@pytest.mark.parametrize("channels_last", [True, False])
def test_it_goes_on_where_it_was(fields: dict[str, Any], channels_last: bool) -> None:
    spec, x = FinetuneSpec(epochs=1, lr=1e-3, **fields), torch.randn(4, 1, 8, 8)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = learned().to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, spec)
    steps(model, optimizer, x, 2)
    kept = {key: value.clone() for key, value in optimizer_tensors(optimizer, model).items()}
    other = copy.deepcopy(model)
    resumed = make_optimizer(other, spec)
    restore_optimizer(resumed, other, kept)
    steps(model, optimizer, x, 2)
    steps(other, resumed, x, 2)
    mine, yours = model.state_dict(), other.state_dict()
    assert all(torch.equal(mine[key], yours[key]) for key in mine)
    assert any(quantizer.learned for quantizer in quantizers(other).values())
