from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.schema.finetune import FinetuneSpec
from qzoo.training.schedule import learning_rate


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
