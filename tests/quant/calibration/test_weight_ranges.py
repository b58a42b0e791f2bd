from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.weight_ranges import layer_weight_range, weight_range
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.schema.quantizer import Calibrator, QuantizerSpec

METHODS = ["max", "mse", "entropy", {"percentile": 99.0}]
weights = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)),
                        elements=st.floats(-4, 4, width=32))  # fmt: skip


def spec(method: object, bits: int = 8, per: str = "channel") -> QuantizerSpec:
    return QuantizerSpec(bits=bits, per=per, calibrator=Calibrator.model_validate(method))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_per_channel_is_per_tensor_on_each_channel(method: object) -> None:
    weight = torch.randn(4, 3, 5, 5)
    amax = weight_range(weight, spec(method), axis=0).amax
    assert amax.shape == (4, 1, 1, 1)
    for channel in range(4):
        assert amax[channel].item() == weight_range(weight[channel], spec(method), axis=None).amax.item()


def test_transposed_convolutions_have_their_channels_on_axis_1() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3)
    assert torch.equal(layer_weight_range(layer, spec("max")).amax, layer.weight.abs().amax((0, 2, 3), keepdim=True))
    assert layer_weight_range(layer, spec("max", per="tensor")).amax.shape == ()


@given(weights)
def test_max_is_the_maximum(weight: np.ndarray) -> None:
    assert (
        weight_range(torch.from_numpy(weight), spec("max"), 0).amax.squeeze(1).tolist()
        == np.abs(weight).max(1).tolist()
    )


@given(weights, st.sampled_from([2, 3, 4, 8]))
def test_mse_never_errs_more_than_max(weight: np.ndarray, bits: int) -> None:
    x, on = torch.from_numpy(weight), grid(bits=bits)

    def error(method: str) -> torch.Tensor:
        return (fake_quantize(x, weight_range(x, spec(method, bits), 0).amax, on) - x).square().sum(1)

    assert bool((error("mse") <= error("max")).all())


@given(weights, st.floats(1, 100))
def test_percentile_is_the_quantile(weight: np.ndarray, percentile: float) -> None:
    ours = weight_range(torch.from_numpy(weight), spec({"percentile": percentile}), None).amax.item()
    assert ours == np.quantile(np.abs(weight), percentile / 100, method="inverted_cdf")


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused(method: object, value: float) -> None:
    weight = torch.ones(2, 2)
    weight[0, 1] = value
    with pytest.raises(CalibrationError, match="the weight holds NaN or Inf"):
        weight_range(weight, spec(method), 0)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_channel_of_zeros_has_range_zero(method: object) -> None:
    weight = torch.stack([torch.zeros(9), torch.linspace(-1, 1, 9)])
    amax = weight_range(weight, spec(method), 0).amax
    assert amax[0] == 0
    assert amax[1] > 0


@given(st.decimals(50, 100, places=3), st.integers(1, 5000))
def test_a_percentile_is_the_decimal_that_was_written(percentile: Decimal, n: int) -> None:
    spec = QuantizerSpec(calibrator={"percentile": float(percentile)})
    values = torch.arange(1, n + 1, dtype=torch.float32)[torch.randperm(n)]
    rank = max(1, int((percentile * n / 100).to_integral_value(ROUND_CEILING)))
    assert float(weight_range(values.view(1, -1), spec, None).amax) == rank
