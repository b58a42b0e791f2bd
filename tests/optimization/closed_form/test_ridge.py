"""Ridge regression against the error of quantized inputs, against NumPy's solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qzoo.optimization.closed_form.least_squares import Fit, ridge_step
from qzoo.optimization.closed_form.ridge import ridge
from qzoo.schema.optimize import Ridge


def test_weights_move_to_the_least_squares_of_the_paper() -> None:
    generator = np.random.default_rng(0)
    exact, weight = generator.normal(size=(2, 5, 40)), generator.normal(size=(2, 3, 5))
    error = 0.2 * generator.normal(size=(2, 5, 40)) - 0.1 * exact
    x = exact + error
    across, hessian = (left @ x.transpose(0, 2, 1) / 40 for left in (weight @ error, x))
    square = np.zeros((2, 3))
    fit = Fit(*(torch.from_numpy(one).float() for one in (hessian, across, square, square)))
    moved = weight + ridge_step(fit, strength=0.1).numpy()
    for group in range(2):
        # As rows of one regression: the inputs, and below them the ridge, with what either is to give.
        size = np.sqrt(40 * 0.1 * hessian[group].diagonal().mean())
        left = np.vstack([x[group].T, size * np.eye(5)])
        right = np.vstack([exact[group].T @ weight[group].T, size * weight[group].T])
        np.testing.assert_allclose(moved[group], np.linalg.lstsq(left, right, rcond=None)[0].T, atol=1e-4)


def test_a_model_gives_less_error_and_says_how_much(calibrated: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 16) @ torch.randn(16, 16)
    model = calibrated(nn.Sequential(nn.Linear(16, 4, bias=False)), x, "w4a4")
    weight, inputs = model[0].weight.detach().clone(), model[0].input_quantizer(x)
    (change,) = ridge(model, Ridge(strength=0.01), [x[:120], x[120:]])
    exact = x @ weight.T
    for told, made in [(change.before, weight), (change.after, model[0].weight.detach())]:
        assert told == pytest.approx(float((inputs @ made.T - exact).square().sum() / exact.square().sum()), rel=1e-3)
    assert change.after < change.before  # type: ignore[operator]


def test_an_input_that_changes_after_its_quantizer_leaves_the_weight_and_is_told(calibrated: Any) -> None:
    x = torch.randn(10, 2, 5, 5)
    model = calibrated(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), x)
    before = model[0].weight.detach().clone()
    (change,) = ridge(model, Ridge(), [x])
    assert change.note == "its inputs are not quantized, or changed after that: not moved"
    assert torch.equal(model[0].weight, before)


def test_a_ridge_that_is_too_weak_is_told(calibrated: Any) -> None:
    x = torch.ones(1, 4)
    model = calibrated(nn.Sequential(nn.Linear(4, 3)), x)
    (change,) = ridge(model, Ridge(strength=1e-12), [x])
    assert change.note == "1e-12 is too weak a ridge for so few inputs: not moved"
