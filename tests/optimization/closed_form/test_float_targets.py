"""Weights that are nearest to the float model's products, against NumPy's least squares."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qzoo.optimization.closed_form.float_targets import STRENGTHS, Fit, best_strength, fit, move
from qzoo.optimization.closed_form.moments import Moments


def draws(places: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight `(3, 4)`, inputs `(4, places)` of no mean of 0, and what they are in the float model."""
    random = np.random.default_rng(seed)
    exact = random.normal(size=(4, 4)) @ random.normal(size=(4, places)) + random.normal(size=(4, 1))
    x = exact + 0.3 * np.abs(exact) + 0.2 * random.normal(size=exact.shape)
    return random.normal(size=(3, 4)), x, exact


def moments(x: np.ndarray, exact: np.ndarray) -> Moments:
    found = Moments()
    for piece in np.array_split(np.arange(x.shape[1]), 3):
        found.add(torch.tensor(x[None, :, piece]).float(), torch.tensor(exact[None, :, piece]).float())
    return found.finish()


def centred(values: np.ndarray, about_mean: bool) -> np.ndarray:
    return values - values.mean(1, keepdims=True) if about_mean else values


def squared_error(weight: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.square(weight @ x - wanted).mean(1)


@pytest.mark.parametrize("about_mean", [False, True])
def test_without_a_ridge_it_is_least_squares(about_mean: bool) -> None:
    weight, x, exact = draws()
    found = weight + move(torch.tensor(weight[None]).float(), fit(moments(x, exact), about_mean), 1e-7)[0].numpy()
    given, wanted = centred(x, about_mean), weight @ centred(exact, about_mean)
    np.testing.assert_allclose(found, np.linalg.lstsq(given.T, wanted.T, rcond=None)[0].T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("about_mean", [False, True])
def test_the_error_of_any_weight_is_that_of_its_products(about_mean: bool) -> None:
    weight, x, exact = draws()
    other = weight + 0.1
    one = fit(moments(x, exact), about_mean)
    float32 = torch.tensor(weight[None]).float()
    found = one.of_move(float32, torch.full_like(float32, 0.1))[0]
    given, wanted = centred(x, about_mean), weight @ centred(exact, about_mean)
    np.testing.assert_allclose(found.numpy(), squared_error(other, given, wanted), rtol=1e-4)
    assert one.of_product(float32) == pytest.approx(np.square(wanted).mean(1).sum(), rel=1e-4)


def test_the_strength_is_the_best_for_the_other_half() -> None:
    weight, x, exact = draws(places=14)  # few: it overfits
    first, second = (x[:, :7], exact[:, :7]), (x[:, 7:], exact[:, 7:])
    float32 = torch.tensor(weight[None]).float()

    def error(strength: float) -> float:
        given, e = first[0], first[0] - first[1]
        ridge = strength * np.diagonal(given @ given.T / 7).mean() * np.eye(4)
        step = -(weight @ (e @ given.T / 7)) @ np.linalg.inv(given @ given.T / 7 + ridge)
        return float(squared_error(weight + step, second[0], weight @ second[1]).sum())

    errors = {strength: error(strength) for strength in STRENGTHS} | {math.inf: error(0) * 0 + _unmoved(weight, second)}
    halves = tuple(fit(moments(*half), about_mean=False) for half in (first, second))
    assert best_strength(float32, (halves[0], halves[1])) == min(errors, key=errors.__getitem__)


def _unmoved(weight: np.ndarray, half: tuple[np.ndarray, np.ndarray]) -> float:
    return float(squared_error(weight, half[0], weight @ half[1]).sum())


def test_inputs_that_say_nothing_move_nothing() -> None:
    weight, zero = torch.ones(1, 2, 3), torch.zeros(1, 3, 3)
    assert torch.equal(move(weight, Fit(zero, zero, zero), 0.003), 0 * weight)
    assert torch.equal(move(weight, Fit(zero, zero, zero), math.inf), 0 * weight)


def test_moments_of_two_halves_are_those_of_all() -> None:
    _, x, exact = draws(30)
    first = moments(x[:, :10], exact[:, :10]).join(moments(x[:, 10:], exact[:, 10:]))
    whole: list[tuple[Tensor, np.ndarray]] = [
        (first.hessian, x @ x.T), (first.error_across, (x - exact) @ x.T), (first.mean, x.sum(1, keepdims=True)),
        (first.error_mean, (x - exact).sum(1, keepdims=True)),
    ]  # fmt: skip
    assert first.places == 30
    for found, wanted in whole:
        np.testing.assert_allclose(found[0].numpy(), wanted / 30, rtol=1e-4, atol=1e-5)
