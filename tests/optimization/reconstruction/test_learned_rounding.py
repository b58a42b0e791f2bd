"""The arithmetic of learned rounding, against NumPy by hand and numerical differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qzoo.optimization.reconstruction.learned_rounding import beta_at, hard, regularizer, sides, soft, up
from qzoo.quant.fake_quant import Grid, fake_quantize, grid

bits = st.integers(2, 8)
seeds = st.integers(0, 1000)


def weight_and_range(seed: int, per: str = "channel") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    amax = weight.abs().amax((1, 2, 3), keepdim=True) if per == "channel" else weight.abs().max()
    return weight, amax * 0.8  # so that some lie beyond the grid


def test_h_is_the_clipped_sigmoid() -> None:
    a = np.linspace(-6, 6, 25)
    by_hand = np.clip(1.2 / (1 + np.exp(-a)) - 0.1, 0, 1)
    np.testing.assert_allclose(up(torch.tensor(a)).numpy(), by_hand, rtol=1e-12)


def test_regularizer_is_as_in_the_paper() -> None:
    a = np.linspace(-3, 3, 13)
    h = np.clip(1.2 / (1 + np.exp(-a)) - 0.1, 0, 1)
    by_hand = np.sum(1 - np.abs(2 * h - 1) ** 3.5)
    assert float(regularizer(torch.tensor(a), 3.5)) == pytest.approx(by_hand)


@given(seed=seeds, bits=bits, per=st.sampled_from(["tensor", "channel"]))
def test_soft_weights_start_as_the_weights(seed: int, bits: int, per: str) -> None:
    weight, amax = weight_and_range(seed, per)
    on = grid(bits=bits)
    found = sides(weight, amax, on)
    step = amax / on.bound
    inside = (weight >= on.low * step) & (weight < on.high * step)
    started = soft(found.start, found.lower, found.divisor)
    torch.testing.assert_close(started[inside], weight[inside], atol=1e-5, rtol=1e-5)


@given(seed=seeds, bits=bits)
def test_soft_weights_are_as_in_the_paper(seed: int, bits: int) -> None:
    weight, amax = weight_and_range(seed)
    on = grid(bits=bits)
    found = sides(weight, amax, on)
    a = found.start + torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    scale = (on.bound / amax).double().numpy()
    v, h = weight.double().numpy() * scale, np.clip(1.2 / (1 + np.exp(-a.double().numpy())) - 0.1, 0, 1)
    clear = np.abs(v - np.round(v)) > 1e-4  # float32 may floor to the other side
    by_hand = np.clip(np.floor(v) + h, on.low, on.high) / scale
    np.testing.assert_allclose(soft(a, found.lower, found.divisor).numpy()[clear], by_hand[clear], rtol=1e-4, atol=1e-5)


@given(seed=seeds, bits=bits, per=st.sampled_from(["tensor", "channel"]))
def test_rounded_weights_pass_their_quantizer_unchanged(seed: int, bits: int, per: str) -> None:
    weight, amax = weight_and_range(seed, per)
    found = sides(weight, amax, grid(bits=bits))
    rounded = found.at(hard(found.start + torch.randn(weight.shape)))
    assert torch.equal(fake_quantize(rounded, amax, grid(bits=bits)), rounded)


@given(seed=seeds, bits=bits)
def test_nearest_is_what_the_quantizer_does(seed: int, bits: int) -> None:
    weight, amax = weight_and_range(seed)
    found = sides(weight, amax, grid(bits=bits))
    v = weight * (grid(bits=bits).bound / amax)
    clear = (v - v.floor() - 0.5).abs() > 1e-4  # ties go either way
    nearest = found.at(hard(found.start))
    torch.testing.assert_close(nearest[clear], fake_quantize(weight, amax, grid(bits=bits))[clear])


def test_a_channel_of_zeros_stays_zero() -> None:
    found = sides(torch.zeros(2, 3), torch.zeros(2, 1), grid(bits=4))
    assert not found.at(up(found.start)).any()
    assert not found.at(hard(found.start)).any()


def test_groups_of_a_transposed_convolution_have_ranges_of_their_own() -> None:
    weight = torch.tensor([[[0.3]], [[0.3]]])
    found = sides(weight, torch.tensor([0.7, 1.4]).view(2, 1, 1, 1), grid(bits=4))
    assert found.lower.flatten().tolist() == [3, 1]


def numerical_gradient(a: Tensor, grad: Tensor, on: Grid, weight: Tensor, amax: Tensor, regular: float) -> Tensor:
    """The gradient of `sum(grad * soft) + regular * R`, by differences, each element apart from the others."""
    found = sides(weight, amax, on)

    def loss(at: np.ndarray) -> np.ndarray:
        h = np.clip(1.2 / (1 + np.exp(-at)) - 0.1, 0, 1)
        value = (found.lower.double().numpy() + h) / found.divisor.double().numpy()
        return grad.double().numpy() * value + regular * (1 - np.abs(2 * h - 1) ** 3.0)

    at, eps = a.detach().double().numpy(), 1e-5
    return torch.from_numpy((loss(at + eps) - loss(at - eps)) / (2 * eps))


@pytest.mark.parametrize("regular", [0.0, 0.7])
def test_gradient_is_that_of_differences(regular: float) -> None:
    weight, amax = weight_and_range(3)
    found = sides(weight, amax, grid(bits=4))
    a = (found.start + 0.3 * torch.randn(weight.shape)).requires_grad_()
    grad = torch.randn(weight.shape)
    (soft(a, found.lower, found.divisor, regular, 3.0) * grad).sum().backward()
    expected = numerical_gradient(a, grad, grid(bits=4), weight, amax, regular)
    assert a.grad is not None
    clear = (a.detach().abs() - 2.3979).abs() > 1e-3  # where h is clipped, the gradient has a corner
    torch.testing.assert_close(a.grad[clear].double(), expected[clear], atol=1e-4, rtol=1e-3)


def test_weights_beyond_the_grid_do_not_learn() -> None:
    found = sides(torch.tensor([9.0, -9.0, 0.3]), torch.tensor(0.7), grid(bits=4))
    a = found.start.clone().requires_grad_()
    soft(a, found.lower, found.divisor, 1.0, 2.0).sum().backward()
    assert a.grad is not None
    assert (a.grad != 0).tolist() == [False, False, True]


def test_beta_falls_linearly_after_the_warmup() -> None:
    assert [beta_at(step, 5, 0.2, (20.0, 4.0)) for step in range(5)] == [None, 20.0, 16.0, 12.0, 8.0]
