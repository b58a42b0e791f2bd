"""Elements that quantization is left out of: how many, what becomes of them, and gradients by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qzoo.optimization.reconstruction.dropped import Drop, DroppedQuantizer
from qzoo.quant.fake_quant import fake_quantize
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec


def drop(probability: float, seed: int = 0) -> Drop:
    return Drop(probability, torch.Generator().manual_seed(seed))


def quantizer(kept: bool = True) -> TensorQuantizer:
    made = TensorQuantizer(QuantizerSpec(bits=3))
    made.set_amax(torch.tensor(1.5))
    made.kept = kept
    return made


def values() -> Tensor:
    return 1.5 * torch.randn(400, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_as_many_are_left_out_as_was_said(probability: float) -> None:
    one = drop(probability)
    x = torch.zeros(100, 1000)
    first, second = one.drawn(x), one.drawn(x)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    # Five standard deviations.
    assert abs(float(first.mean()) - probability) < 5 * (probability * (1 - probability) / 1e5) ** 0.5
    both = float((first * second).mean())
    assert abs(both - probability**2) < 5 * (probability**2 * (1 - probability**2) / 1e5) ** 0.5


def test_large_tensors_are_drawn_from_a_pool_that_grows() -> None:
    one = drop(0.5)
    assert one.drawn(torch.zeros(3_000_000)).mean() == pytest.approx(0.5, abs=2e-3)


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(drop(0.5).drawn(torch.zeros(1000)), drop(0.5).drawn(torch.zeros(1000)))


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_all_or_nothing(probability: float, share: float) -> None:
    x, one = values(), quantizer()
    expected = x if share else one(x)
    assert torch.equal(DroppedQuantizer(one, drop(probability))(x), expected)


def test_elements_are_quantized_or_as_they_were_to_the_bit() -> None:
    x, one = values(), quantizer()
    y = DroppedQuantizer(one, drop(0.5))(x)
    quantized = fake_quantize(x, one.amax, one.grid)
    left_out = drop(0.5).drawn(x).bool()
    assert torch.equal(y, torch.where(left_out, x, quantized))


@pytest.mark.parametrize("kept", [True, False])
def test_gradients_are_those_of_lsq_where_it_is_quantized(kept: bool) -> None:
    x, one = values().requires_grad_(), quantizer(kept)
    amax = one.learn("activation")
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    DroppedQuantizer(one, drop(0.5))(x).backward(grad)
    left_out = drop(0.5).drawn(x).bool().numpy()
    v = x.detach().double().numpy() * 2  # steps of a half: 3 bits reach 3 steps up, 4 down
    inside = (v >= -4) & (v <= 3)
    of_step = np.where(inside, np.round(v) - v, np.clip(v, -4, 3)) * ~left_out
    assert x.grad is not None
    assert amax.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), np.where(inside | left_out, grad.numpy(), 0))
    assert float(amax.grad) == pytest.approx(float((of_step * grad.double().numpy()).sum() / 3), rel=1e-4)


def test_a_pool_for_each_dtype() -> None:
    one, other = drop(0.5), drop(0.5)
    x = torch.zeros(1000)
    mixed = [one.drawn(x), one.drawn(x.half()).float(), one.drawn(x)]
    alone = [other.drawn(x) for _ in range(3)]
    assert torch.equal(mixed[0], alone[0])
    assert torch.equal(mixed[2], alone[2])  # the pool of another dtype between them took nothing from it


def test_what_is_dropped_lies_as_the_values_lie() -> None:
    x = torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert drop(0.5).drawn(x).stride() == x.stride()
