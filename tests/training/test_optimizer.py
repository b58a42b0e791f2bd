from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import FinetuneSpec, Scales
from qzoo.training.optimizer import (
    learning_rate,
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


def rates(steps: int, **fields: Any) -> list[float]:
    spec = FinetuneSpec.model_validate({"epochs": 4, "lr": 0.1} | fields)
    return [round(learning_rate(spec, step, steps), 6) for step in range(spec.epochs * steps)]


def test_shapes_by_hand() -> None:
    assert rates(1) == [0.1] * 4
    assert rates(1, schedule="step", step_epochs=2, step_factor=0.5) == [0.1, 0.1, 0.05, 0.05]
    assert rates(1, schedule="cosine") == [0.1, 0.085355, 0.05, 0.014645]
    assert rates(1, schedule="cosine", floor=0.02) == [0.1, 0.088284, 0.06, 0.031716]
    assert rates(2, warmup_epochs=1)[:4] == [0.033333, 0.066667, 0.1, 0.1]
    assert rates(4, warmup_epochs=0.5)[:3] == [0.033333, 0.066667, 0.1]


@given(
    epochs=st.integers(1, 30), steps=st.integers(1, 50), warmup=st.floats(0, 1),
    shape=st.sampled_from([{}, {"schedule": "cosine", "floor": 0.01}, {"schedule": "step", "step_epochs": 3}]),
)  # fmt: skip
def test_rates_stay_between_zero_and_lr(epochs: int, steps: int, warmup: float, shape: dict[str, Any]) -> None:
    spec = FinetuneSpec.model_validate({"epochs": epochs, "lr": 0.1, "warmup_epochs": warmup} | shape)
    found = [learning_rate(spec, step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in found)
    rising = math.ceil(warmup * steps)
    assert found[:rising] == sorted(found[:rising])
    assert found[rising:] == sorted(found[rising:], reverse=True)


@pytest.mark.parametrize("epochs", [1, 15, 90])
def test_a_cosine_starts_at_lr_and_comes_close_to_its_floor(epochs: int) -> None:
    spec = FinetuneSpec(epochs=epochs, lr=1e-3, schedule="cosine", floor=1e-5)
    assert learning_rate(spec, 0, 1000) == pytest.approx(1e-3)
    assert learning_rate(spec, epochs * 1000 - 1, 1000) == pytest.approx(1e-5, rel=1e-3)


@given(epochs=st.integers(1, 30), steps=st.integers(1, 50), lr=st.floats(1e-6, 10))
def test_a_constant_is_constant(epochs: int, steps: int, lr: float) -> None:
    spec = FinetuneSpec(epochs=epochs, lr=lr)
    assert {learning_rate(spec, step, steps) for step in range(epochs * steps)} == {lr}


@given(
    steps=st.integers(1, 50), every=st.integers(1, 5), factor=st.floats(0.01, 0.99), epoch=st.integers(0, 19),
    within=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_steps_fall_at_the_start_of_an_epoch(steps: int, every: int, factor: float, epoch: int, within: float) -> None:
    spec = FinetuneSpec(epochs=20, lr=0.1, schedule="step", step_epochs=every, step_factor=factor)
    rate = learning_rate(spec, epoch * steps + int(within * steps), steps)
    assert rate == pytest.approx(0.1 * factor ** (epoch // every))


@given(
    epochs=st.integers(1, 20), steps=st.integers(1, 50), warmup=st.floats(0, 1), floor=st.floats(0, 0.1),
    lr=st.floats(0.1, 1),
)  # fmt: skip
def test_a_cosine_is_its_formula(epochs: int, steps: int, warmup: float, floor: float, lr: float) -> None:
    spec = FinetuneSpec(epochs=epochs, lr=lr, schedule="cosine", floor=floor, warmup_epochs=warmup)
    first, total = math.ceil(warmup * steps), epochs * steps
    for step in range(first, total):
        x = (step - warmup * steps) / max(total - warmup * steps, 1)
        # cos is written as 1 - 2 sin^2, and the whole as a mixture of both ends.
        share = math.sin(math.pi * x / 2) ** 2
        assert learning_rate(spec, step, steps) == pytest.approx((1 - share) * lr + share * floor)
    if first == warmup * steps < total:
        assert learning_rate(spec, first, steps) == pytest.approx(lr)


@given(steps=st.integers(1, 100), warmup=st.floats(0, 3))
def test_a_warmup_rises_evenly_to_where_the_schedule_begins(steps: int, warmup: float) -> None:
    spec = FinetuneSpec(epochs=4, lr=0.1, warmup_epochs=warmup)
    rising = math.ceil(warmup * steps)
    found = [learning_rate(spec, step, steps) for step in range(rising + 1)]
    differences = [b - a for a, b in zip([0.0, *found], found, strict=False)]
    assert differences == pytest.approx([0.1 / (rising + 1)] * (rising + 1))


def test_a_run_may_be_warmup_alone() -> None:
    assert rates(2, epochs=1, warmup_epochs=1, schedule="cosine") == [0.033333, 0.066667]


def test_a_warmup_before_steps_takes_none_of_their_epochs() -> None:
    found = rates(2, warmup_epochs=1, schedule="step", step_epochs=2, step_factor=0.1)
    assert found == [0.033333, 0.066667, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]


@pytest.mark.parametrize(("epochs", "steps", "warming"), [(0.1, 30, 3), (0.07, 100, 7), (0.29, 100, 29), (0.2, 97, 20)])
def test_a_warmup_lasts_as_many_steps_as_its_decimal_says(epochs: float, steps: int, warming: int) -> None:
    spec = FinetuneSpec(epochs=1, lr=1.0, warmup_epochs=epochs)
    rates = [learning_rate(spec, step, steps) for step in range(steps)]
    assert rates[:warming] == pytest.approx([(step + 1) / (warming + 1) for step in range(warming)])
    assert rates[warming:] == [1.0] * (steps - warming)
