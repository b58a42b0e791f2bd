"""Steps of a training: what they change, in which order, and what is left when it ends."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.learned_scale import SMALLEST_LEARNED
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import FinetuneSpec
from qzoo.training.loss import loss_of
from qzoo.training.optimizer import learning_rate
from qzoo.training.trainer import Execution, NotFinite, Trainer
from tests.training.conftest import digits

X, Y = digits()


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(72, 10)).eval()
    return qzoo.calibrate(qzoo.quantize(model, "w4a4"), [X[:128]])


def spec(**fields: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"epochs": 2, "lr": 0.05, "scales": "learned"} | fields)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def batch(step: int, size: int = 32) -> tuple[Tensor, Tensor]:
    return X[step * size : (step + 1) * size], Y[step * size : (step + 1) * size]


@pytest.mark.parametrize("fields", [{}, {"scales": "fixed"}, {"optimizer": "adamw", "lr": 5e-3}, {"distill": {}}])
def test_steps_train(fields: dict[str, Any]) -> None:
    teacher = network() if "distill" in fields else None
    trainer = Trainer(network(), spec(**fields), 100, teacher=teacher)
    before = parameters(trainer.model)
    losses = [float(trainer.step(X[:64], Y[:64])[1]) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    after = parameters(trainer.model)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert any(name.endswith("amax") for name in before) is (fields.get("scales") != "fixed")


def test_a_step_tells_rate_loss_and_hits() -> None:
    trainer, schedule = Trainer(network(), spec(), 3), spec(schedule="cosine", warmup_epochs=0.5)
    trainer.spec = schedule
    for step in range(5):
        assert (trainer.step_number, trainer.epoch) == (step, step // 3)
        x, y = batch(step)
        with torch.no_grad():
            logits = copy.deepcopy(trainer.model).train()(x)
        rate, loss, correct = trainer.step(x, y)
        assert rate == learning_rate(schedule, step, 3)
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {rate}
        torch.testing.assert_close(loss, loss_of(logits, y, schedule))
        assert int(correct) == int((logits.argmax(1) == y).sum())
        assert not loss.requires_grad


def test_a_step_is_the_optimizers_on_the_gradient_of_the_loss() -> None:
    model = network()
    trainer = Trainer(copy.deepcopy(model), spec(momentum=0, weight_decay=0.01, label_smoothing=0.1), 10)
    trainer.step(*batch(0))
    learned = copy.deepcopy(trainer.model)
    learned.load_state_dict(model.state_dict())
    learned.train().zero_grad()
    x, y = batch(0)
    loss_of(learned(x), y, trainer.spec).backward()
    for name, parameter in learned.named_parameters():
        decay = 0.01 if parameter.dim() > 1 and not name.endswith("amax") else 0.0
        assert parameter.grad is not None
        expected = parameter - 0.05 * (parameter.grad + decay * parameter)
        torch.testing.assert_close(dict(trainer.model.named_parameters())[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("largest", [1e-3, 0.1, 1e6])
def test_no_more_than_the_largest_norm_is_moved(largest: float) -> None:
    fields, rate = {"lr": 1e-2, "momentum": 0, "weight_decay": 0}, 1e-2
    clipped, free = (Trainer(network(), spec(**fields | more), 10) for more in ({"clip_gradient": largest}, {}))
    before = parameters(clipped.model)
    for trainer in (clipped, free):
        trainer.step(*batch(0))
    gradients = {name: parameter.grad for name, parameter in free.model.named_parameters()}
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in gradients.values() if grad is not None))
    # Ranges and weights together, and all by the same factor.
    factor = min(1.0, largest / norm)
    assert (factor < 1) is (largest < 1)
    for name, value in parameters(clipped.model).items():
        expected = before[name] - rate * factor * gradients[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_what_is_left_has_ranges_as_buffers_and_is_the_result(ema: float | None) -> None:
    model = network()
    keys = model.state_dict().keys()
    trainer = Trainer(model, spec(ema=ema), 10)
    for step in range(3):
        trainer.step(*batch(step))
    expected = state(trainer.result)
    final = trainer.finish()
    assert final is model
    assert final.state_dict().keys() == keys == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in final.state_dict().items())
    assert not final.training
    assert all(parameter.grad is None for parameter in final.parameters())
    for path, quantizer in quantizers(final).items():
        assert (quantizer.learned, quantizer.state) == (None, "quantizing")
        assert f"{path}.amax" in dict(final.named_buffers())
    with torch.inference_mode():
        fresh = network()
        fresh.load_state_dict(expected)
        assert torch.equal(final(X[:8]), fresh(X[:8]))


def test_the_average_is_moved_after_the_step() -> None:
    trainer, decay = Trainer(network(), spec(ema=0.8, lr=0.2), 10), 0.8
    average: dict[str, Tensor] = {}
    for step in range(4):
        trainer.step(*batch(step))
        now = {key: value.double() for key, value in state(trainer.model).items() if "num_batches" not in key}
        average = {key: decay * average.get(key, now[key]) + (1 - decay) * now[key] for key in now}
        for key, value in average.items():
            torch.testing.assert_close(trainer.result.state_dict()[key].double(), value, rtol=1e-5, atol=1e-6)
    assert trainer.result is not trainer.model


def test_ranges_never_fall_below_the_smallest() -> None:
    trainer = Trainer(network(), spec(lr=1e-2, momentum=0), 10)
    first = trainer.ranges[0]
    first.register_hook(lambda grad: torch.full_like(grad, 1e6))
    trainer.step(*batch(0))
    assert bool((first == SMALLEST_LEARNED).all())
    _, loss, _ = trainer.step(*batch(1))
    assert bool(loss.isfinite())


def test_gradients_that_are_not_finite_change_no_parameter() -> None:
    trainer = Trainer(network(), spec(), 10)
    trainer.step(*batch(0))
    before, remembered = parameters(trainer.model), copy.deepcopy(trainer.optimizer.state_dict()["state"])
    handle = trainer.model[5].bias.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(NotFinite, match=r"^the gradient of 5\.bias holds NaN or Inf$"):
        trainer.step(*batch(1))
    after = parameters(trainer.model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert trainer.step_number == 1
    now = trainer.optimizer.state_dict()["state"]
    assert all(torch.equal(now[key]["momentum_buffer"], value["momentum_buffer"]) for key, value in remembered.items())
    # The fault gone, the same step can be made.
    handle.remove()
    trainer.step(*batch(1))


def test_a_teacher_without_distillation_is_not_asked() -> None:
    assert Trainer(network(), spec(), 10, teacher=network()).teacher is None
    trainer = Trainer(network(), spec(distill={"weight": 1.0}), 10, teacher=network())
    trainer.step(X[:16], Y[:16])
    first = parameters(trainer.model)
    # All weight lies on the teacher, so labels do not matter.
    other = Trainer(network(), spec(distill={"weight": 1.0}), 10, teacher=network())
    other.step(X[:16], Y[:16].flip(0))
    assert all(torch.equal(value, first[name]) for name, value in parameters(other.model).items())
    assert trainer.teacher is not None
    before = state(network())
    assert all(torch.equal(value, before[key]) for key, value in trainer.teacher.model.state_dict().items())


def test_the_memory_format_is_a_matter_of_speed() -> None:
    results = []
    for channels_last in (True, False):
        trainer = Trainer(network(), spec(), 10, execution=Execution(channels_last=channels_last))
        for step in range(2):
            trainer.step(*batch(step))
        results.append(state(trainer.finish()))
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-4, atol=1e-5)


def test_lsqs_start_needs_an_example() -> None:
    trainer = Trainer(network(), spec(scales={"init": "lsq"}), 10, X[:64])
    first = quantizers(trainer.model)["0.input_quantizer"]
    expected = 2 * X[:64].abs().mean() / math.sqrt(first.grid.high) * first.grid.bound
    torch.testing.assert_close(first.amax.detach(), expected)
    assert {id(one) for one in trainer.ranges} == {id(one.amax) for one in quantizers(trainer.model).values()}


@pytest.mark.parametrize("fields", [{}, pytest.param({"precision": "bfloat16"}, marks=pytest.mark.slow)])
def test_a_compiled_step_is_an_eager_one(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, compiled = torch.compile, []

    def with_eager_kernels(model: nn.Module) -> Any:
        compiled.append(model)
        return compiler(model, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", with_eager_kernels)
    made = [Trainer(network(), spec(**fields), 10, execution=Execution(compile=compile)) for compile in (False, True)]
    assert [one.model for one in compiled] == [made[1].model]
    losses = [[float(trainer.step(*batch(step))[1]) for step in range(2)] for trainer in made]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    one, other = (state(trainer.finish()) for trainer in made)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("where", ["images", "loss", "gradients"])
def test_a_step_that_is_not_finite_changes_nothing(where: str) -> None:
    trainer = Trainer(network(), spec(), 10)
    trainer.step(*batch(0))
    before, (x, y) = state(trainer.model), batch(1)
    if where == "loss":
        trainer.model[-1].register_forward_hook(lambda module, args, y: y * torch.inf)
    elif where == "gradients":
        trainer.model[-1].weight.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(NotFinite):
        trainer.step(x * torch.nan if where == "images" else x, y)
    after = state(trainer.model)
    assert all(torch.equal(after[key], before[key]) for key in before)
