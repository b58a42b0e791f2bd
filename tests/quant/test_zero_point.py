from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from qzoo.quant import pieces
from qzoo.quant.fake_quant import SMALLEST_AMAX, dequantize, fake_quantize, grid, quantize, represented
from qzoo.quant.packing import pack, packed_fault, unpack
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weight_cache import WeightCache
from qzoo.quant.zero_point import asymmetric_range, symmetric_as_asymmetric
from qzoo.schema.quantizer import QuantizerSpec
from tests.each import for_each

BITS = st.integers(2, 16)
values = arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))
reaches = st.floats(0, 100, width=32)


def unsigned(bits: int):  # type: ignore[no-untyped-def]
    return grid(bits=bits, unsigned=True)


def numpy_fake_quantize(x: np.ndarray, amax: float, zero_point: int, bits: int) -> np.ndarray:
    """The definition, in float32 NumPy; the zero point is added after rounding, in float64, which is exact."""
    bound = 2**bits - 1
    scale = np.float32(bound) / np.float32(amax)
    q = np.clip(np.rint(x * scale).astype(np.float64) + zero_point, 0, bound)
    return ((q - zero_point).astype(np.float32) / scale).astype(np.float32)


@given(values, st.floats(0.015625, 128, width=32), BITS, st.floats(0, 1))
def test_equals_the_definition(x: np.ndarray, amax: float, bits: int, share: float) -> None:
    zero_point = round(share * (2**bits - 1))
    ours = fake_quantize(torch.from_numpy(x), torch.tensor(amax), unsigned(bits), torch.tensor(zero_point))
    np.testing.assert_array_equal(ours.numpy(), numpy_fake_quantize(x, amax, zero_point, bits))


@given(reaches, reaches, BITS)
def test_a_range_holds_zero_and_ends_within_half_a_step(below: float, above: float, bits: int) -> None:
    on = unsigned(bits)
    amax, _, zero_point = asymmetric_range(torch.tensor(-below), torch.tensor(above), on)
    assert zero_point is not None
    assert 0 <= int(zero_point) <= on.bound
    low, high = represented(amax, on, zero_point)
    error = 0.5 * float(amax) / on.bound + 1e-6 * (below + above) + SMALLEST_AMAX
    assert abs(float(low) + below) <= error
    assert abs(float(high) - above) <= error
    assert fake_quantize(torch.zeros(1), amax, on, zero_point).item() == 0


@for_each(("low", "high", "expected"), [(1.0, 3.0, (0, 3)), (-3.0, -1.0, (-3, 0)), (0.0, 0.0, (0, 0))])
def test_a_range_of_one_sign_reaches_to_zero(low: float, high: float, expected: tuple[float, float]) -> None:
    on = unsigned(4)
    amax, _, zero_point = asymmetric_range(torch.tensor(low), torch.tensor(high), on)
    assert tuple(map(float, represented(amax, on, zero_point))) == pytest.approx(expected)


@given(values, st.floats(0.015625, 128, width=32), BITS)
def test_a_zero_point_of_zero_is_the_unsigned_quantizer(x: np.ndarray, amax: float, bits: int) -> None:
    on, x_, range_ = unsigned(bits), torch.from_numpy(x), torch.tensor(amax)
    assert torch.equal(fake_quantize(x_, range_, on, torch.tensor(0)), fake_quantize(x_, range_, on))


@given(values, st.floats(0.015625, 128, width=32), BITS)
def test_a_zero_point_in_the_middle_has_the_steps_of_the_signed_quantizer(
    x: np.ndarray, amax: float, bits: int
) -> None:
    on, range_ = unsigned(bits), torch.tensor(amax)
    width, _, zero_point = symmetric_as_asymmetric(range_, on)
    # No value lies where the last bit of the scale decides.
    inside = torch.from_numpy(np.rint(x / amax * 2**bits) * (amax / (2 ** (bits - 1) - 1))).float()
    ours = fake_quantize(inside, width, on, zero_point)
    torch.testing.assert_close(ours, fake_quantize(inside, range_, grid(bits=bits)), rtol=1e-6, atol=0)


def test_the_gradient_passes_between_the_values_represented() -> None:
    on, amax, zero_point = unsigned(2), torch.tensor(3.0), torch.tensor(1)
    x = torch.tensor([-1.01, -1.0, 0.0, 2.0, 2.01], requires_grad=True)
    fake_quantize(x, amax, on, zero_point).backward(torch.arange(1.0, 6))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 0]
    followed = torch.func.grad(lambda x: fake_quantize(x, amax, on, zero_point) @ torch.arange(1.0, 6))(x.detach())
    assert followed.tolist() == [0, 2, 3, 4, 0]


def test_zero_points_of_channels_are_those_of_each_alone() -> None:
    on, x = unsigned(4), torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    amax, zero_point = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1), torch.tensor([0, 5, 15]).view(3, 1, 1, 1)
    together = fake_quantize(x, amax, on, zero_point)
    for n in range(3):
        assert torch.equal(together[n], fake_quantize(x[n], amax[n, 0, 0, 0], on, zero_point[n, 0, 0, 0]))


def test_groups_of_a_transposed_convolution_have_zero_points_of_their_own() -> None:
    on, weight = unsigned(4), torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    amax = torch.rand(2, 1, 3, 1, 1, generator=torch.Generator().manual_seed(1)) + 0.5
    zero_point = torch.arange(6).view(2, 1, 3, 1, 1)
    expected = fake_quantize(weight.view(2, 2, 3, 2, 2), amax, on, zero_point).view_as(weight)
    assert torch.equal(fake_quantize(weight, amax, on, zero_point), expected)


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, args = torch.randn(2, 50, 7), (torch.tensor(3.0), unsigned(8), torch.tensor(90))
    whole = fake_quantize(x, *args)
    monkeypatch.setattr(pieces, "LARGE", 1)
    monkeypatch.setattr(pieces, "PIECE", 64)
    assert torch.equal(fake_quantize(x, *args), whole)


@given(BITS, st.booleans(), st.integers(0, 10))
def test_packs_and_unpacks_to_the_fake_quantized_weight(bits: int, per_channel: bool, seed: int) -> None:
    on, weight = unsigned(bits), torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
    of = weight if per_channel else weight.view(1, -1)
    amax, _, zero_point = asymmetric_range(of.amin(1, keepdim=True), of.amax(1, keepdim=True) * 0.7, on)
    expected, packed = fake_quantize(weight, amax, on, zero_point), pack(weight, amax, on, zero_point)
    assert packed_fault(packed, on, (3, 5)) is None
    unpacked = unpack(packed, amax, on, (3, 5), zero_point)
    assert torch.equal(unpacked, expected)
    assert torch.equal(fake_quantize(unpacked, amax, on, zero_point), expected)
    assert torch.equal(dequantize(quantize(weight, amax, on, zero_point), amax, on, zero_point), expected)


def asymmetric(zero_point: int = 5, **spec: object) -> TensorQuantizer:
    quantizer = TensorQuantizer(QuantizerSpec(bits=4, symmetric=False, **spec))  # type: ignore[arg-type]
    quantizer.set_amax(torch.tensor(1.5), zero_point=torch.tensor(zero_point))
    return quantizer


def test_a_quantizer_keeps_its_zero_point_beside_its_range() -> None:
    quantizer = asymmetric()
    x = torch.tensor([-9.0, -0.26, 0.0, 0.26, 9.0])
    assert torch.equal(quantizer(x), fake_quantize(x, torch.tensor(1.5), unsigned(4), torch.tensor(5)))
    assert {*quantizer.state_dict()} == {"amax", "zero_point"}
    other = TensorQuantizer(quantizer.spec)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(x), quantizer(x))
    assert repr(other) == ("TensorQuantizer(asymmetric 4bit per-tensor max, from -0.5 to 1, zero_point=5, quantizing)")
    assert torch.equal(copy.deepcopy(quantizer).bfloat16().zero_point, torch.tensor(5, dtype=torch.int32))


def test_a_symmetric_quantizer_has_none() -> None:
    quantizer = TensorQuantizer(QuantizerSpec())
    assert quantizer.zero_point is None
    with pytest.raises(ValueError, match="symmetric, it has no zero point"):
        quantizer.set_amax(torch.tensor(1.0), zero_point=torch.tensor(0))


@for_each(
    ("zero_point", "fault"),
    [
        (torch.tensor(16), "holds 16, its grid 0 to 15"),
        (torch.tensor(-1), "holds -1, its grid 0 to 15"),
        (torch.tensor([1]), r"has shape \(1,\), its range \(\)"),
        (torch.tensor(1.0), "is float32, expected integers"),
    ],
)
def test_what_is_no_zero_point_is_refused(zero_point: torch.Tensor, fault: str) -> None:
    quantizer = asymmetric()
    with pytest.raises(ValueError, match=fault):
        quantizer.set_amax(torch.tensor(9.0), zero_point=zero_point)
    assert (float(quantizer.amax), int(quantizer.zero_point)) == (1.5, 5)  # type: ignore[arg-type]


def test_a_kept_weight_is_quantized_anew_for_another_zero_point() -> None:
    quantizer, weight, cache = asymmetric(5), torch.tensor([-0.5, 1.0]), WeightCache()
    kept = cache.quantized(quantizer, weight)
    assert cache.quantized(quantizer, weight) is kept
    quantizer.set_amax(torch.tensor(1.5), zero_point=torch.tensor(0))
    assert cache.quantized(quantizer, weight).tolist() == pytest.approx([0, 1.0])


def test_exported_it_computes_the_same() -> None:
    model, x = nn.Sequential(asymmetric()).eval(), torch.linspace(-2, 2, 12).view(3, 4)
    with torch.no_grad():
        assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))
