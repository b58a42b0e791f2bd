from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qzoo.quant import pieces
from qzoo.quant.fake_quant import Grid, fake_quantize, fake_quantize_affine, grid
from tests.each import for_each

BITS = range(2, 17)
INT_GRIDS = [
    grid(bits=b, unsigned=u, narrow=n) for b in BITS for u, n in [(False, False), (False, True), (True, False)]
]
FP8_GRIDS = [grid("e4m3"), grid("e5m2")]

values = arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))
ranges = st.floats(0.015625, 128, width=32)
grids = st.sampled_from(INT_GRIDS + FP8_GRIDS)


def numpy_fake_quantize(x: np.ndarray, amax: float, on: Grid) -> np.ndarray:
    """The definition, in ten lines of float32 NumPy."""
    scale = np.float32(on.bound) / np.float32(amax)
    q = np.clip(np.rint(x * scale), np.float32(on.low), np.float32(on.high))
    return (q / scale).astype(np.float32)


@given(values, ranges, st.sampled_from(INT_GRIDS))
def test_equals_the_definition(x: np.ndarray, amax: float, on: Grid) -> None:
    ours = fake_quantize(torch.from_numpy(x), torch.tensor(amax), on).numpy()
    np.testing.assert_array_equal(ours, numpy_fake_quantize(x, amax, on))


@given(values, ranges, grids)
def test_is_idempotent(x: np.ndarray, amax: float, on: Grid) -> None:
    once = fake_quantize(torch.from_numpy(x), torch.tensor(amax), on)
    twice = fake_quantize(once, torch.tensor(amax), on)
    # q / scale * scale may land an ulp beside q, never beside another step
    torch.testing.assert_close(twice, once, rtol=1e-6, atol=0)


@given(values, ranges, st.sampled_from(INT_GRIDS))
def test_errs_by_half_a_step_at_most_inside_the_range(x: np.ndarray, amax: float, on: Grid) -> None:
    inside = np.clip(x, 0 if on.low == 0 else -amax, amax)
    error = np.abs(fake_quantize(torch.from_numpy(inside), torch.tensor(amax), on).numpy() - inside)
    assert error.max() <= 0.5 * amax / on.bound + 1e-5 * amax


@given(values, ranges, grids)
def test_is_monotonic_and_keeps_zero(x: np.ndarray, amax: float, on: Grid) -> None:
    y = fake_quantize(torch.from_numpy(np.sort(x)), torch.tensor(amax), on)
    assert bool((y.diff() >= 0).all())
    assert fake_quantize(torch.zeros(1), torch.tensor(amax), on).item() == 0


@given(values, ranges, grids)
def test_gradient_passes_inside_and_stops_outside(x: np.ndarray, amax: float, on: Grid) -> None:
    leaf = torch.from_numpy(x).requires_grad_()
    fake_quantize(leaf, torch.tensor(amax), on).sum().backward()
    low = 0 if on.low == 0 else -amax
    np.testing.assert_array_equal(leaf.grad.numpy(), ((x >= low) & (x <= amax)).astype(np.float32))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("unsigned", [False, True])
def test_agrees_with_torch_but_for_rounding_ties(bits: int, unsigned: bool) -> None:
    x, amax, on = torch.randn(10_000), torch.tensor(2.5), grid(bits=bits, unsigned=unsigned)
    theirs = torch.fake_quantize_per_tensor_affine(x, float(amax) / on.bound, 0, int(on.low), int(on.high))
    different = (fake_quantize(x, amax, on) - theirs).abs() > 1e-5
    assert different.float().mean() < 1e-3


@pytest.mark.parametrize("on", FP8_GRIDS)
def test_fp8_equals_a_saturating_cast_and_keeps_its_largest_value(on: Grid) -> None:
    x = torch.randn(1000) * 3
    amax = torch.tensor(on.bound)
    assert on.fp8 is not None
    torch.testing.assert_close(fake_quantize(x, amax, on), x.to(on.fp8).float(), rtol=0, atol=0)
    assert fake_quantize(torch.tensor([1e9, -1e9]), torch.tensor(5.0), on).tolist() == [5.0, -5.0]


@pytest.mark.parametrize("on", [grid(), grid("e4m3"), grid(bits=4, unsigned=True)])
def test_per_channel_is_per_tensor_on_each_channel(on: Grid) -> None:
    weight, amax = torch.randn(5, 3, 2, 2), torch.rand(5, 1, 1, 1) + 0.5
    whole = fake_quantize(weight, amax, on)
    for channel in range(5):
        assert torch.equal(whole[channel], fake_quantize(weight[channel], amax[channel].reshape(()), on))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype: torch.dtype) -> None:
    x, amax = torch.randn(1000).to(dtype), torch.tensor(1.7)
    y = fake_quantize(x, amax, grid())
    assert y.dtype == dtype
    assert torch.equal(y, fake_quantize(x.float(), amax, grid()).to(dtype))


@pytest.mark.parametrize("amax", [0.0, 2.0**-24])
def test_a_range_that_holds_nothing_gives_zero(amax: float) -> None:
    assert fake_quantize(torch.tensor([1e-9, 0.0, -3.0]), torch.tensor(amax), grid()).tolist() == [0, 0, 0]


def test_the_input_is_not_changed() -> None:
    x = torch.randn(100)
    before = x.clone()
    fake_quantize(x, torch.tensor(1.0), grid())
    assert torch.equal(x, before)


@pytest.mark.parametrize(("bits", "unsigned", "narrow", "expected"), [
    (8, False, False, (-128, 127, 127)), (8, False, True, (-127, 127, 127)), (8, True, False, (0, 255, 255)),
    (2, False, False, (-2, 1, 1)), (16, True, False, (0, 65535, 65535)),
])  # fmt: skip
def test_grids(bits: int, unsigned: bool, narrow: bool, expected: tuple[int, int, int]) -> None:
    assert grid(bits=bits, unsigned=unsigned, narrow=narrow)[:3] == expected


@for_each("change", [
    lambda x: x, lambda x: x.to(memory_format=torch.channels_last), lambda x: x.transpose(1, 3), lambda x: x[:, ::2],
    lambda x: x[:1].expand(4, -1, -1, -1), lambda x: x.flatten(),
])  # fmt: skip
@for_each("on", [grid(), grid(bits=4, unsigned=True)])
def test_piece_by_piece_is_the_same_values_and_strides(change, on: Grid, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    x, amax = change(torch.randn(4, 6, 10, 10)), torch.tensor(1.7)
    whole = fake_quantize(x, amax, on)
    monkeypatch.setattr(pieces, "LARGE", 1)
    monkeypatch.setattr(pieces, "PIECE", 77)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            in_pieces = fake_quantize(x, amax, on)
            assert torch.equal(in_pieces, whole)
            assert in_pieces.stride() == whole.stride()
    assert not fake_quantize(x, torch.tensor(0.0), on).any()
    leaf = x.clone().requires_grad_()
    fake_quantize(leaf, amax, on).sum().backward()
    low = 0.0 if on.low == 0 else -1.7
    assert torch.equal(leaf.grad, ((x >= low) & (x <= amax)).float())


@pytest.mark.parametrize("on", [grid(), grid("e4m3")])
def test_a_range_that_is_none_gives_no_number(on: Grid) -> None:
    y = fake_quantize(torch.ones(2, 2), torch.tensor([[1.0], [torch.nan]]), on)
    assert y[0].isfinite().all()
    assert y[1].isnan().all()


@given(values, st.floats(-50, 0, width=32), st.floats(1, 50, width=32), st.integers(2, 10))
def test_affine_errs_by_a_step_at_most_inside_the_range_and_keeps_zero(
    x: np.ndarray, smallest: float, largest: float, bits: int
) -> None:
    low, high = torch.tensor(smallest), torch.tensor(largest)
    step = float(high - low) / (2**bits - 1)
    inside = torch.from_numpy(np.clip(x, smallest, largest))
    error = (fake_quantize_affine(inside, low, high, bits) - inside).abs()
    # Both ends are moved to the nearest steps, since 0 is one.
    assert error.max() <= step * 1.001 + 1e-5
    assert fake_quantize_affine(torch.zeros(1), low, high, bits) == 0
