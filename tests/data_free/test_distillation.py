"""The loop, on objectives whose gradients are known: chunks have one objective, and it ends where it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qzoo.data_free import distillation
from qzoo.data_free.distillation import Distillation, chunks, ended, normalized
from qzoo.data_free.distillation_state import BETAS, DistillationInfo, DistillationState
from qzoo.errors import CalibrationError
from qzoo.models.base_model import InputFormat

FORM = InputFormat(4, (0.25,), (0.5,))


@dataclass
class MeanSquare:
    """The square of the mean over all pixels of all images, less something."""

    target: float = 0.0
    name: str = "mean"
    sizes: list[int] = field(default_factory=list)

    def statistics(self, x: Tensor) -> list[Tensor]:
        self.sizes.append(len(x))
        return [x.mean().reshape(1)]

    def loss(self, statistics: Sequence[Tensor]) -> Tensor:
        return (statistics[0] - self.target).square().sum()


def info(**changed: Any) -> DistillationInfo:
    said: dict[str, Any] = {
        "name": "", "version": 0, "recipe_sha256": "", "base_sha256": "", "qzoo": "0", "torch": "0",
        "images": 6, "steps": 3, "lr": 0.01, "smooth": 0.0, "seed": 0, "size": 4, "mean": FORM.mean, "std": FORM.std,
        "threads": 1, "objective": "mean",
    }  # fmt: skip
    return DistillationInfo(**said | changed)


def images(count: int = 6) -> Tensor:
    return torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@given(count=st.integers(1, 40), at_once=st.integers(0, 9))
def test_chunks_hold_every_image_once(count: int, at_once: int) -> None:
    places = [list(range(count))[one] for one in chunks(count, at_once)]
    assert [place for one in places for place in one] == list(range(count))
    sizes = {len(one) for one in places}
    assert max(sizes) <= max(1, at_once)
    assert max(sizes) - min(sizes) <= 1


def test_a_chunk_has_the_gradient_of_the_loss_over_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "PIXELS_AT_ONCE", 2 * 16)
    run = Distillation(MeanSquare(), FORM, info(smooth=0.7), None)
    run.begin(images())
    x = ((images().numpy() / 255) - 0.25) / 0.5
    pixels = (images()[2:4] / 255).requires_grad_()
    loss = run._loss(1, pixels)
    variation = sum(np.mean(np.diff(images().numpy() / 255, axis=axis) ** 2) for axis in (2, 3)) / 2
    assert float(loss.detach()) == pytest.approx(x.mean() ** 2 + 0.7 * variation, rel=1e-5)
    run = Distillation(MeanSquare(), FORM, info(), None)
    run.begin(images())
    pixels = (images()[2:4] / 255).requires_grad_()
    (gradient,) = torch.autograd.grad(run._loss(1, pixels), pixels)
    # d/dp of (sum of x / M) ** 2, with dx/dp = 1 / std, for all M pixels of the 6 images.
    np.testing.assert_allclose(gradient.numpy(), 2 * x.mean() / (6 * 16) / 0.5, rtol=1e-4)


def test_images_go_through_the_network_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "PIXELS_AT_ONCE", 2 * 16)
    objective = MeanSquare()
    run = Distillation(objective, FORM, info(images=5), None)
    run.begin(images(5))
    assert [len(places) for places in run.changes()] == [1, 2, 2] * 3
    assert objective.sizes == [1, 2, 2] * 4


def test_the_loss_falls_and_pixels_stay_in_0_to_1() -> None:
    run = Distillation(MeanSquare(target=-5.0), FORM, info(steps=60, lr=0.2), None)
    run.begin(images())
    list(run.changes())
    assert run.state.losses == sorted(run.state.losses, reverse=True)
    assert float(run.pixels.min()) == 0
    assert float(run.pixels.max()) <= 1


def test_it_ends_on_a_plateau_and_not_before() -> None:
    assert ended([1.0] * 20, 100)
    assert not ended([1.0] * 19, 100)
    assert not ended([0.99**step for step in range(60)], 100)
    assert ended([0.9999**step for step in range(60)], 100)
    assert ended([1.0], 1)
    assert ended([], 0)


def test_a_loss_that_is_no_number_is_told() -> None:
    run = Distillation(MeanSquare(target=float("nan")), FORM, info(lr=0.5), None)
    run.begin(images())
    with pytest.raises(CalibrationError, match=r"nan after step 1. Its learning rate is 0.5: give a smaller one"):
        list(run.changes())


@given(seed=st.integers(0, 1000), lr=st.floats(0.001, 0.1))
def test_steps_are_those_of_torchs_adam(seed: int, lr: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, gradients = torch.rand(3, 1, 2, 2, generator=generator), torch.randn(4, 3, 1, 2, 2, generator=generator)
    state = DistillationState(start.clone(), torch.zeros_like(start), torch.zeros_like(start), [], [])
    parameter = start.clone().requires_grad_()
    adam = torch.optim.Adam([parameter], lr=lr, betas=BETAS, eps=1e-12)
    for gradient in gradients:
        state.step(slice(None), gradient, lr)
        state.losses.append(0.0)
        parameter.grad = gradient
        adam.step()
        with torch.no_grad():
            parameter.clamp_(0, 1)
    torch.testing.assert_close(state.pixels, parameter.detach(), rtol=1e-4, atol=1e-5)


def test_normalized_is_as_the_format_says() -> None:
    form = InputFormat(2, (0.1, 0.2), (0.5, 0.25))
    x = normalized(torch.full((1, 2, 2, 2), 0.6), form)
    np.testing.assert_allclose(x[0, :, 0, 0].numpy(), [1.0, 1.6], rtol=1e-6)
