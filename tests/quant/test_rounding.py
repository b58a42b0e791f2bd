from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qzoo.quant.fake_quant import Grid, grid
from qzoo.quant.rounding import rounded_values, rounding_codes
from tests.each import for_each

GRIDS = [grid(bits=2), grid(bits=4), grid(bits=8), grid(bits=4, unsigned=True), grid(bits=3, narrow=True)]


def weight_of(seed: int, clipped: bool) -> tuple[Tensor, Tensor]:
    """A weight with a range per channel; some of it lies outside where it is clipped."""
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    amax = weight.abs().amax(1, keepdim=True) * (0.5 if clipped else 1.0)
    return weight, amax


def steps_of(weight: Tensor, amax: Tensor, on: Grid) -> np.ndarray:
    return weight.numpy() * (np.float32(on.bound) / amax.numpy())


@given(st.integers(0, 50), st.sampled_from(GRIDS), st.booleans(), st.integers(0, 6))
def test_any_values_of_the_grid_come_back(seed: int, on: Grid, clipped: bool, spread: int) -> None:
    weight, amax = weight_of(seed, clipped)
    moved = np.random.default_rng(seed).integers(-spread, spread + 1, weight.shape)
    values = torch.from_numpy(np.clip(np.round(steps_of(weight, amax, on)) + moved, on.low, on.high)).float()
    codes = rounding_codes(values, weight, amax, on)
    assert codes is not None
    assert torch.equal(rounded_values(codes, weight, amax, on), values)


@for_each("on", GRIDS)
def test_up_or_down_takes_one_bit(on: Grid) -> None:
    weight, amax = weight_of(3, clipped=True)
    up = np.random.default_rng(0).integers(0, 2, weight.shape)
    values = torch.from_numpy(np.clip(np.floor(steps_of(weight, amax, on)) + up, on.low, on.high))
    codes = rounding_codes(values, weight, amax, on)
    assert codes is not None
    assert (codes.start, codes.width, len(codes.packed)) == ("floor", 1, 4)


def test_the_nearest_takes_none() -> None:
    weight, amax = weight_of(1, clipped=True)
    on = grid(bits=4)
    values = torch.from_numpy(np.clip(np.round(steps_of(weight, amax, on)), on.low, on.high))
    codes = rounding_codes(values, weight, amax, on)
    assert codes is not None
    assert (codes.start, codes.width, len(codes.packed)) == ("nearest", 0, 0)


def test_values_of_another_weight_take_as_many_bits_as_the_grid_has() -> None:
    values = torch.tensor([[-8.0, 7.0, 0.0]])
    codes = rounding_codes(values, torch.tensor([[9.0, -9.0, 4.0]]), torch.tensor(9.0), grid(bits=4))
    assert codes is not None
    assert (codes.start, codes.width) == ("grid", 4)


def test_with_a_zero_point_too() -> None:
    on, zero_point = grid(bits=4, unsigned=True), torch.tensor([[5], [9]], dtype=torch.int32)
    weight, amax = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([[3.0], [4.0]])
    up = np.random.default_rng(0).integers(0, 2, (2, 8))
    values = torch.from_numpy(np.clip(np.floor(steps_of(weight, amax, on)) + zero_point.numpy() + up, 0, 15)).float()
    codes = rounding_codes(values, weight, amax, on, zero_point)
    assert codes is not None
    assert codes.width == 1
    assert torch.equal(rounded_values(codes, weight, amax, on, zero_point), values)


def test_an_empty_range_has_values_of_its_own() -> None:
    weight, amax = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0]])
    codes = rounding_codes(torch.tensor([[1.0, -1.0]]), weight, amax, grid(bits=8))
    assert codes is not None
    assert rounded_values(codes, weight, amax, grid(bits=8)).tolist() == [[1.0, -1.0]]


def test_what_no_byte_holds_is_not_coded() -> None:
    values = torch.tensor([[-32768.0, 32767.0]])
    assert rounding_codes(values, torch.tensor([[1.0, -1.0]]), torch.tensor(1.0), grid(bits=16)) is None
