"""Cross entropy and distillation, against their formulas in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qzoo.schema.finetune import Distillation, FinetuneSpec
from qzoo.training.loss import Teacher, distillation, loss_of

SEEDS = st.integers(0, 1000)
TEMPERATURES = st.floats(0.5, 50)


def logits(seed: int, size: float = 2.0) -> Tensor:
    return size * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


def spec(smoothing: float = 0.0, distill: Distillation | None = None) -> FinetuneSpec:
    return FinetuneSpec(epochs=1, lr=0.1, label_smoothing=smoothing, distill=distill)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@given(SEEDS, st.floats(0, 0.99))
def test_smoothed_labels_share_what_the_right_one_gives_away(seed: int, smoothing: float) -> None:
    x = logits(seed)
    goal = nn.functional.one_hot(LABELS, 5).double() * (1 - smoothing) + smoothing / 5
    expected = -(goal * x.double().log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(x, LABELS, spec(smoothing)).double(), expected, rtol=1e-5, atol=1e-6)


@given(SEEDS, TEMPERATURES)
def test_distillation_is_the_divergence_of_softened_predictions(seed: int, temperature: float) -> None:
    x, teachers = logits(seed), logits(seed + 1)
    p, q = (teachers.double() / temperature).softmax(1), (x.double() / temperature).softmax(1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
    found = distillation(x, teachers, Distillation(temperature=temperature))
    # In float32 the divergence is a difference of numbers near each other, times the temperature squared.
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6 * temperature**2)


@given(SEEDS, TEMPERATURES)
def test_the_gradient_of_distillation_is_that_of_its_formula(seed: int, temperature: float) -> None:
    x, teachers = logits(seed).requires_grad_(), logits(seed + 1)
    distillation(x, teachers, Distillation(temperature=temperature)).backward()
    p, q = ((of.detach().double() / temperature).softmax(1) for of in (teachers, x))
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), temperature * (q - p) / len(x), rtol=1e-3, atol=1e-6 * temperature)


@given(SEEDS)
def test_the_gradient_hardly_depends_on_a_high_temperature(seed: int) -> None:
    def gradient(temperature: float) -> Tensor:
        x = logits(seed).requires_grad_()
        distillation(x, logits(seed + 1), Distillation(temperature=temperature)).backward()
        assert x.grad is not None
        return x.grad

    # Source: arXiv 1503.02531, equation 4: (z - v) / classes, where logits have mean 0. The factor T^2 is in the loss.
    x, teachers = (of - of.mean(1, keepdim=True) for of in (logits(seed), logits(seed + 1)))
    limit = (x - teachers) / 5 / len(x)
    norms = [float(gradient(t).norm()) for t in (20.0, 40.0, 80.0)]
    assert norms == pytest.approx([float(limit.norm())] * 3, rel=0.25)
    torch.testing.assert_close(gradient(200.0), limit, rtol=0.1, atol=2e-3)


@given(SEEDS, TEMPERATURES)
def test_who_predicts_as_the_teacher_has_nothing_to_learn(seed: int, temperature: float) -> None:
    x = logits(seed).requires_grad_()
    loss = distillation(x, x.detach() + 3, Distillation(temperature=temperature))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6 * temperature**2)
    assert float(x.grad.abs().max()) < 1e-6 * temperature


@given(SEEDS, st.floats(0.01, 1), st.floats(0, 0.5))
def test_the_goals_share_the_loss_by_weight(seed: int, weight: float, smoothing: float) -> None:
    x, teachers, goal = logits(seed), logits(seed + 1), Distillation(weight=weight)
    both = loss_of(x, LABELS, spec(smoothing, goal), teachers)
    labels, theirs = loss_of(x, LABELS, spec(smoothing)), distillation(x, teachers, goal)
    torch.testing.assert_close(both, (1 - weight) * labels + weight * theirs)


def test_of_weight_one_the_labels_do_not_matter() -> None:
    x, teachers, goal = logits(0), logits(1), Distillation(weight=1.0)
    assert torch.equal(loss_of(x, LABELS, spec(0.0, goal), teachers), distillation(x, teachers, goal))
    assert torch.equal(loss_of(x, LABELS.flip(0), spec(0.0, goal), teachers), distillation(x, teachers, goal))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_are_taken_as_they_are(dtype: torch.dtype) -> None:
    x, teachers, goal = logits(0).to(dtype), logits(1).to(dtype), spec(0.1, Distillation())
    loss = loss_of(x, LABELS, goal, teachers)
    assert torch.equal(loss, loss_of(x.float(), LABELS, goal, teachers.float()))
    # Large ones would overflow in half precision.
    assert bool(loss_of(x.new_full((6, 5), 6e4), LABELS, goal, teachers).isfinite())


def test_the_teacher_gets_no_gradients() -> None:
    model, x = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).train(), torch.randn(6, 3)
    statistics = model[1].running_mean.clone()
    teacher, student = Teacher(model), nn.Linear(3, 5)
    loss_of(student(x), LABELS, spec(0.0, Distillation()), teacher(x)).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert student.weight.grad is not None
    assert torch.equal(model[1].running_mean, statistics)
