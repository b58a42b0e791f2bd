"""Against the formula of pytorch-quantization's CPU path, bit for bit, gradients included."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from qzoo.compat.pytorch_quantization import tensor_quant as tq

values = arrays.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32))
ranges = st.floats(0, 128, width=32)
per_axis = arrays.arrays(np.float32, (3, 1), elements=ranges)
grids = st.tuples(st.integers(2, 12), st.sampled_from([(False, False), (False, True), (True, False), (True, True)]))


def reference(x: Tensor, amax: Tensor, bits: int, unsigned: bool, narrow: bool) -> tuple[Tensor, Tensor]:
    """What the CPU path computes: integers and scale."""
    bound = torch.tensor(2.0 ** (bits - 1 + unsigned) - 1.0)
    low = torch.tensor(0.0) if unsigned else (-bound if narrow else -bound - 1)
    scale = bound / amax
    empty = amax <= 2.0**-24
    scale = torch.where(empty, torch.zeros_like(scale), scale)
    q = torch.clamp((x * scale).round(), low, bound)
    return q, torch.where(empty, torch.ones_like(scale), scale)


def inputs_for(x: np.ndarray, unsigned: bool) -> Tensor:
    return torch.from_numpy(np.abs(x) if unsigned else x)


@given(values, ranges, grids)
def test_per_tensor_equals_the_reference(x: np.ndarray, amax: float, of: tuple[int, tuple[bool, bool]]) -> None:
    bits, (unsigned, narrow) = of
    data, span = inputs_for(x, unsigned), torch.tensor(amax)
    q, scale = reference(data, span, bits, unsigned, narrow)
    assert torch.equal(tq.fake_tensor_quant(data, span, bits, unsigned, narrow), q / scale)
    ours, our_scale = tq.tensor_quant(data, span, bits, unsigned, narrow)
    assert torch.equal(ours, q)
    assert torch.equal(our_scale, scale)


@given(values, per_axis, grids)
def test_per_axis_equals_the_reference(x: np.ndarray, amax: np.ndarray, of: tuple[int, tuple[bool, bool]]) -> None:
    bits, (unsigned, narrow) = of
    data, span = inputs_for(x, unsigned), torch.from_numpy(amax)
    q, scale = reference(data, span, bits, unsigned, narrow)
    assert torch.equal(tq.fake_tensor_quant(data, span, bits, unsigned, narrow), q / scale)
    assert torch.equal(tq.tensor_quant(data, span, bits, unsigned, narrow)[0], q)


@given(values, per_axis, st.booleans(), st.sampled_from(["fake", "real", "legacy"]))
def test_the_gradient_passes_where_the_magnitude_is_within_the_range(
    x: np.ndarray, amax: np.ndarray, unsigned: bool, which: str
) -> None:
    data, span = inputs_for(x, unsigned).requires_grad_(), torch.from_numpy(amax)
    functions = {"fake": tq.fake_tensor_quant, "real": tq.tensor_quant, "legacy": tq.legacy_fake_tensor_quant}
    y = functions[which](data, span, 8, unsigned)
    y = y[0] if isinstance(y, tuple) else y
    grad = torch.arange(1.0, 16).view(3, 5)
    y.backward(grad)
    assert data.grad is not None
    assert torch.equal(data.grad, torch.where(data.detach().abs() <= span, grad, 0.0))


def test_the_range_itself_has_its_gradient_and_more_has_none() -> None:
    x = torch.tensor([-1.0, -1.0001, 1.0, 1.0001], requires_grad=True)
    tq.fake_tensor_quant(x, torch.tensor(1.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0, 1, 0]


def test_a_range_that_is_nan_gives_nan() -> None:
    assert tq.fake_tensor_quant(torch.ones(2), torch.tensor(torch.nan)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_small_floats_are_computed_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    amax = x.abs().max()
    y = tq.fake_tensor_quant(x, amax)
    assert y.dtype == dtype
    assert torch.equal(y, tq.fake_tensor_quant(x.float(), amax.float()).to(dtype))


def test_a_scale_that_float16_does_not_hold() -> None:
    x, amax = torch.randn(100).half(), torch.tensor(1e-4).half()
    with pytest.raises(ValueError, match=r"scale is too large for FP16 with amax=.* Give float32 inputs"):
        tq.tensor_quant(x, amax, 8, False)
    with pytest.warns(tq.ScaleOverflowWarning, match="scale is too large for FP16 with amax=0.0001: computed in float"):
        y = tq.fake_tensor_quant(x, amax, 8, False)
    assert y.isfinite().all()
    assert y.abs().max() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tq.fake_tensor_quant(x.float(), amax.float(), 8, False)
        tq.fake_tensor_quant(x.half(), torch.tensor(1.0), 8, False)


def test_negative_values_are_refused_by_unsigned_grids() -> None:
    for function in (tq.tensor_quant, tq.fake_tensor_quant):
        with pytest.raises(TypeError, match=r"Negative values encountered in unsigned quantization\. .* is -2:"):
            function(torch.tensor([-2.0, 1.0]), torch.tensor(1.0), 8, True)


def test_negative_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Negative values in amax. The smallest is -1"):
        tq.fake_tensor_quant(torch.ones(2), torch.tensor([1.0, -1.0]))


def test_no_bits_give_zeros() -> None:
    assert tq.fake_tensor_quant(torch.randn(4), torch.tensor(1.0), 0).tolist() == [0, 0, 0, 0]


@given(values, st.floats(-50, 0, width=32), st.floats(1, 50, width=32), st.integers(2, 10))
def test_affine_equals_the_reference(x: np.ndarray, low: float, high: float, bits: int) -> None:
    data, smallest, largest = torch.from_numpy(x).requires_grad_(), torch.tensor(low), torch.tensor(high)
    y = tq.fake_affine_tensor_quant(data, smallest, largest, bits)
    step = (largest - smallest) / (2.0**bits - 1)
    zero = torch.round(smallest / step) + 2.0 ** (bits - 1)
    q = torch.clamp(torch.round(data.detach() / step) - zero, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    assert torch.equal(y.detach(), (q + zero) * step)
    y.sum().backward()
    assert data.grad is not None
    assert torch.equal(data.grad, ((data <= largest) & (data >= smallest)).float())


def test_affine_keeps_integers_of_its_range() -> None:
    x = torch.tensor([-128.0, -101, -13, -1, 0, 2, 5, 13, 93, 111, 127])
    assert torch.equal(tq.fake_affine_tensor_quant(x, x.min(), x.max()), x)


E4M3_IN = torch.tensor([-2.0, -1.8, -1.6, -0.4, -0.2, 0.0, 0.2, 0.6, 1.2, 1.8])
E4M3_OUT = torch.tensor([-2.0, -1.75, -1.625, -0.40625, -0.203125, 0.0, 0.203125, 0.625, 1.25, 1.75])


def test_e4m3_without_a_range_is_the_format_itself() -> None:
    assert torch.equal(tq.scaled_e4m3(E4M3_IN), E4M3_OUT)
    assert torch.equal(tq.scaled_e4m3(E4M3_IN), E4M3_IN.to(torch.float8_e4m3fn).float())


def test_e4m3_scales_the_range_to_448_and_flushes_what_is_tiny() -> None:
    scale = 448.0 / torch.tensor(2.0)
    expected = (E4M3_IN * scale).to(torch.float8_e4m3fn).float() / scale
    assert torch.equal(tq.scaled_e4m3(E4M3_IN, torch.tensor(2.0)), expected)
    assert tq.scaled_e4m3(torch.tensor([2.0**-25, 2.0**-24]), torch.tensor(2.0**-20)).tolist() == [0, 2.0**-24]


def test_e4m3_has_the_clipped_gradient() -> None:
    x = torch.tensor([-3.0, 0.5, 2.0, 3.0], requires_grad=True)
    tq.scaled_e4m3(x, torch.tensor(2.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_e4m3_has_a_gradient_at_zero() -> None:
    weight = torch.zeros(3, requires_grad=True)
    tq.scaled_e4m3(weight, torch.tensor(1.0)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1, 1]


def test_integers_are_taken_as_float32() -> None:
    x = torch.arange(5)
    assert torch.equal(tq.fake_tensor_quant(x, torch.tensor(4.0)), tq.fake_tensor_quant(x.float(), torch.tensor(4.0)))
    assert tq.tensor_quant(x, torch.tensor(4.0))[0].tolist() == [0, 32, 64, 95, 127]


def test_the_names_of_the_autograd_functions() -> None:
    x, amax = torch.randn(4), torch.tensor(2.0)
    assert torch.equal(tq.FakeTensorQuantFunction.apply(x, amax), tq.fake_tensor_quant(x, amax))
    assert torch.equal(tq.TensorQuantFunction.apply(x, amax, 4)[0], tq.tensor_quant(x, amax, 4)[0])


def test_half_compiles_whole() -> None:
    compiled = torch.compile(tq.fake_tensor_quant, backend="aot_eager", fullgraph=True)
    x, amax = torch.randn(8).half(), torch.tensor(2.0)
    assert torch.equal(compiled(x, amax), tq.fake_tensor_quant(x, amax))


def test_other_formats_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="Only support E=4 & M=3 for now, not E=5, M=2"):
        tq.scaled_e4m3(torch.ones(1), None, 5, 2)


def test_the_user_guides_example() -> None:
    torch.manual_seed(12345)
    x = torch.rand(10)
    fake = tq.fake_tensor_quant(x, x.abs().max())
    expected = [0.9843, 0.8828, 0.9921, 0.4609, 0.0859, 0.1797, 0.3672, 0.5703, 0.3359, 0.2109]
    torch.testing.assert_close(fake, torch.tensor(expected), atol=5e-5, rtol=0)
    integers, scale = tq.tensor_quant(x, x.abs().max())
    assert integers.tolist() == [126, 113, 127, 59, 11, 23, 47, 73, 43, 27]
    assert float(scale) == pytest.approx(128.0057, abs=1e-4)
