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
