"""What stands for a quantizer in a graph computes what the quantizer does, up to a rounding tie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import qzoo
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.runtimes.quant_ops import ExportedActivation, ExportedWeight, exportable
from qzoo.schema.quantizer import QuantizerSpec
from tests.runtimes.conftest import digits, network

pytestmark = pytest.mark.runtimes


def quantizer(amax: Tensor, **spec: Any) -> TensorQuantizer:
    made = TensorQuantizer(QuantizerSpec(**spec), tuple(amax.shape))
    made.set_amax(amax)
    return made


def values(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shifted", [False, True])
@given(
    bits=st.integers(2, 16), kind=st.sampled_from(["signed", "narrow", "unsigned"]), amax=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_an_activation_is_rounded_to_the_same_steps(
    bits: int, kind: str, amax: float, seed: int, shifted: bool
) -> None:
    one = quantizer(torch.tensor(amax), bits=bits, unsigned=kind == "unsigned", narrow=kind == "narrow")
    x = amax * values(seed, 200)
    expected, found = one(x), ExportedActivation(one, shifted=shifted)(x)
    step = amax / one.grid.bound
    steps = (expected - found).abs() / step
    # x / scale and x * (1 / scale) may fall on two sides of a tie.
    assert float(steps.max()) < 1.01
    assert float((steps > 0.01).float().mean()) < 0.02
    assert float((found / step).min()) >= one.grid.low - 0.01
    assert float((found / step).max()) <= one.grid.high + 0.01


@pytest.mark.parametrize("format", ["e4m3", "e5m2"])
def test_fp8_is_the_same(format: Any) -> None:
    one, x = quantizer(torch.tensor(448.0 if format == "e4m3" else 57344.0), format=format), 100 * values(0, 500)
    assert torch.equal(ExportedActivation(one)(x), one(x))


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_weight_is_its_stored_values(bits: int, per_channel: bool) -> None:
    weight = values(1, 6, 4, 3, 3)
    amax = weight.abs().amax((1, 2, 3), keepdim=True) if per_channel else weight.abs().max()
    one = quantizer(amax, bits=bits)
    made = ExportedWeight(one, weight)
    torch.testing.assert_close(made(torch.zeros(())), one(weight), rtol=1e-6, atol=1e-7)
    assert made.values.dtype == (torch.int16 if bits > 8 else torch.int8)
    assert made.scale.shape == ((6,) if per_channel else ())


@pytest.mark.parametrize("empty", [0.0, 2.0**-24])
def test_a_range_that_holds_nothing_gives_zero(empty: float) -> None:
    one = quantizer(torch.tensor(empty))
    assert float(ExportedActivation(one)(torch.ones(3) * 1e-9).abs().max()) < 1e-30
    assert torch.equal(ExportedWeight(one, torch.ones(3))(torch.zeros(())), torch.zeros(3))


@pytest.mark.parametrize(
    ("bits", "unsigned", "shifted", "dtype", "zero"),
    [
        (8, False, False, torch.int8, 0),
        (8, False, True, torch.uint8, 128),
        (8, True, True, torch.uint8, 0),
        (4, False, True, torch.uint8, 128),
        (16, False, True, torch.uint16, 32768),
        (16, True, False, torch.uint16, 0),
    ],
)
def test_what_zero_is_stored_as(bits: int, unsigned: bool, shifted: bool, dtype: torch.dtype, zero: int) -> None:
    made = ExportedActivation(quantizer(torch.tensor(1.0), bits=bits, unsigned=unsigned), shifted=shifted)
    assert (made.zero_point.dtype, int(made.zero_point)) == (dtype, zero)


@pytest.mark.parametrize("scheme", ["int8", "int8_ort", "w4a4", "fp8"])
def test_an_exportable_model_computes_the_same_and_the_model_stays(scheme: str) -> None:
    model = qzoo.calibrate(qzoo.quantize(network(), scheme, example=digits(1)), [digits()])
    before = [type(module) for module in model.modules()]
    made = exportable(model)
    with torch.no_grad():
        assert float((made(digits()) - model(digits())).abs().max()) < 0.05 * float(model(digits()).abs().max())
        assert (made(digits()).argmax(1) == model(digits()).argmax(1)).float().mean() > 0.9
    assert [type(module) for module in model.modules()] == before
    assert not quantizers(made)
    assert isinstance(made[0], nn.Conv2d)
