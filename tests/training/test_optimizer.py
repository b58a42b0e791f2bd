from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import FinetuneSpec, Scales
from qzoo.training.optimizer import (
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    set_learning_rate,
)
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


def tied() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 6), nn.LayerNorm(6), nn.Linear(6, 6)]
    model = nn.Sequential(*layers, nn.Linear(6, 6)).eval()
    model[6].weight = model[5].weight
    model = qzoo.calibrate(qzoo.quantize(model, "int8"), [torch.randn(4, 1, 8, 8)])
    learn_scales(model, Scales(), None)
    return model


@pytest.mark.parametrize("make", [learned, tied])
def test_each_parameter_is_in_one_group_once(make: Any) -> None:
    model = make()
    decaying, others = ([id(one) for one in group["params"]] for group in parameter_groups(model, 0.1))
    assert sorted(decaying + others) == sorted(id(one) for one in model.parameters())
    assert not set(decaying) & set(others)


def test_a_range_of_a_channel_has_no_decay_though_it_has_dimensions() -> None:
    model = tied()
    others = {id(parameter) for parameter in parameter_groups(model, 0.1)[1]["params"]}
    weight = model[0].weight_quantizer
    assert weight.amax.dim() == 4
    assert {id(quantizer.amax) for quantizer in quantizers(model).values()} <= others
    norms = {id(one) for norm in (model[1], model[4]) for one in norm.parameters()}
    assert norms | {id(model[0].bias), id(model[5].bias)} <= others


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_gradients_only_weights_shrink(optimizer: str) -> None:
    model = tied()
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.5, "optimizer": optimizer, "weight_decay": 0.25})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, spec).step()
    for name, parameter in model.named_parameters():
        decays = parameter.dim() > 1 and name.endswith("weight")
        torch.testing.assert_close(parameter.detach(), before[name] * (0.875 if decays else 1.0), rtol=1e-6, atol=0)


def test_the_optimizer_is_that_of_the_spec() -> None:
    sgd = make_optimizer(tied(), FinetuneSpec(epochs=1, lr=0.1, momentum=0.7, weight_decay=0.3))
    adamw = make_optimizer(tied(), FinetuneSpec(epochs=1, lr=0.2, optimizer="adamw", weight_decay=0.3))
    assert isinstance(sgd, torch.optim.SGD)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [(group["lr"], group["momentum"], group["weight_decay"]) for group in sgd.param_groups] == [
        (0.1, 0.7, 0.3),
        (0.1, 0.7, 0.0),
    ]
    assert [(group["lr"], group["weight_decay"]) for group in adamw.param_groups] == [(0.2, 0.3), (0.2, 0.0)]
    set_learning_rate(adamw, 0.05)
    assert [group["lr"] for group in adamw.param_groups] == [0.05, 0.05]


def test_memory_is_named_by_parameter_and_slot() -> None:
    model, x = learned(), torch.randn(4, 1, 8, 8)
    optimizer = make_optimizer(model, FinetuneSpec(epochs=1, lr=1e-3, optimizer="adamw"))
    assert optimizer_tensors(optimizer, model) == {}
    steps(model, optimizer, x, 1)
    names = {name for name, _ in model.named_parameters()}
    expected = {f"{name}/{slot}" for name in names for slot in ("step", "exp_avg", "exp_avg_sq")}
    assert optimizer_tensors(optimizer, model).keys() == expected


@pytest.mark.parametrize("fields", [{"optimizer": "sgd"}, {"optimizer": "adamw"}])
def test_what_was_kept_in_a_file_is_copied_back(fields: dict[str, Any], tmp_path: Path) -> None:
    spec, x = FinetuneSpec(epochs=1, lr=1e-3, **fields), torch.randn(4, 1, 8, 8)
    model = learned().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, spec)
    steps(model, optimizer, x, 2)
    kept = {key: value.contiguous() for key, value in optimizer_tensors(optimizer, model).items()}
    save_file(kept, tmp_path / "kept")
    other, read = copy.deepcopy(model), load_file(tmp_path / "kept")
    resumed = make_optimizer(other, spec)
    # What it remembered before is gone.
    resumed.state[next(other.parameters())]["momentum_buffer"] = torch.full_like(next(other.parameters()), 9.0)
    restore_optimizer(resumed, other, read)
    assert optimizer_tensors(resumed, other).keys() == kept.keys()
    for one, its in ((model, optimizer), (other, resumed)):
        steps(one, its, x, 2)
    mine, yours = model.state_dict(), other.state_dict()
    assert all(torch.equal(mine[key], yours[key]) for key in mine)
    # Further steps write to memory of its own, not to what was handed over.
    again = load_file(tmp_path / "kept")
    assert all(torch.equal(read[key], value) for key, value in again.items())
