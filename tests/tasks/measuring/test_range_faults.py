"""When a range counts as wrong: the bounds, both ends, channels, and weights that lie on their grids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import qzoo
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weights import QuantizedWeight
from qzoo.quant.zero_point import Range
from qzoo.results.check import CheckedQuantizer
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.tasks.measuring.range_faults import Ends, check_activation, check_weight, share_held

PATH = "conv.input_quantizer"
SPECS = {
    "max": {"calibrator": "max"}, "entropy": {"calibrator": "entropy"}, "mse": {"calibrator": "mse"},
    "percentile": {"calibrator": {"percentile": 99.9}}, "all": {"calibrator": {"percentile": 100}},
    "fp8": {"calibrator": "mse", "format": "e4m3"}, "unsigned": {"calibrator": "mse", "unsigned": True},
}  # fmt: skip


def saw(*values: float) -> HistogramCollector:
    collector = HistogramCollector(two_sided=True)
    collector.collect(torch.tensor(values))
    return collector


def checked(used: Range, found: Range, seen: HistogramCollector, judged: bool = True, **spec: Any) -> CheckedQuantizer:
    quantizer = TensorQuantizer(QuantizerSpec.model_validate(spec))
    quantizer.set_amax(used.amax, used.unsigned, used.zero_point)
    return check_activation(PATH, quantizer, found, seen, judged=judged)


def amax(value: float) -> Range:
    return Range(torch.tensor(value), True)


@pytest.mark.parametrize(("name", "least", "most"), [
    ("max", 7 / 8, 1.9), ("entropy", 7 / 8, 1.9), ("all", 7 / 8, 1.9), ("mse", 4 / 5, 1.6), ("percentile", 4 / 5, 1.6),
    ("fp8", 4 / 5, 1.6), ("unsigned", 4 / 5, 1.6),
])  # fmt: skip
def test_the_bounds_of_each_calibrator(name: str, least: float, most: float) -> None:
    seen, spec = saw(0.0, 4.0) if name == "unsigned" else saw(-4.0, 4.0), SPECS[name]
    for factor, fault in {least - 0.01: "narrow", least + 0.01: None, most - 0.01: None, most + 0.01: "wide"}.items():
        row = checked(amax(4 * factor), amax(4.0), seen, **spec)
        assert (row.fault, row.ratio) == (fault, pytest.approx(factor))
        assert row.found == (0.0 if name == "unsigned" else -4.0, 4.0)


def test_what_is_not_to_be_the_calibrators_range_is_shown_and_not_judged() -> None:
    row = checked(amax(1.0), amax(4.0), saw(-4.0, 4.0), judged=False, calibrator="mse")
    assert (row.fault, row.judged, row.ratio, row.of) == (None, False, 0.25, "activation")


def test_a_zero_point_that_is_wrong_is_found_although_the_width_is_right() -> None:
    spec, seen = {"symmetric": False, "calibrator": "mse"}, saw(-1.0, 2.0)
    found = Range(torch.tensor(3.0), None, torch.tensor(85, dtype=torch.int32))
    assert checked(found, found, seen, **spec).fault is None
    moved = Range(torch.tensor(3.0), None, torch.tensor(170, dtype=torch.int32))
    row = checked(moved, found, seen, **spec)
    assert row.range == (pytest.approx(-2.0), pytest.approx(1.0))
    assert (row.fault, row.ratio, row.clipped) == ("narrow", 1.0, 50.0)


def test_a_sign_that_few_odd_values_would_decide_otherwise_is_no_fault() -> None:
    seen = saw(-0.01, 1.0, 4.0)
    assert checked(amax(4.0), amax(4.0), seen, unsigned="auto", calibrator="mse").fault is None
    # As far below 0 as above, where hardly anything is below.
    signed = Range(torch.tensor(6.0), None, torch.tensor(128, dtype=torch.int32))
    lopsided = Range(torch.tensor(4.0), None, torch.tensor(0, dtype=torch.int32))
    assert checked(lopsided, signed, saw(0.0, 3.0), symmetric="auto", calibrator="mse").fault is None


def test_where_only_zeros_came_by_nothing_is_told_and_nothing_divided() -> None:
    row = checked(amax(2.0), amax(0.0), saw(0.0, 0.0))
    assert (row.fault, row.ratio, row.clipped) == (None, None, 0.0)
    assert checked(amax(0.0), amax(2.0), saw(-2.0, 2.0)).fault == "narrow"


def test_the_share_that_is_clipped_is_what_lies_half_a_step_beyond() -> None:
    values = [-3.0, -0.5, 0.5, 1.0, 1.003, 1.01, 2.0, 3.0]
    row = checked(amax(1.0), amax(3.0), saw(*values), calibrator="mse")
    step = 1 / 127
    beyond = sum(abs(value) > 1 + step / 2 for value in values)
    assert row.clipped == 100 * beyond / len(values) == 50.0


@given(
    st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10),
)  # fmt: skip
def test_the_share_held_is_that_of_a_fine_ruler(low: float, high: float, start: float, end: float) -> None:
    ruler = torch.linspace(-start, end, 20_001)
    inside = ((ruler >= -low) & (ruler <= high)).float().mean()
    ends = [Ends(torch.tensor(-a), torch.tensor(b)) for a, b in ((low, high), (start, end))]
    assert float(share_held(*ends)) == pytest.approx(float(inside), abs=1e-3)


def quantized(values: Tensor, factor: Tensor, **spec: Any) -> QuantizedWeight:
    found = QuantizerSpec.model_validate({"per": "channel", **spec})
    quantizer = TensorQuantizer(found, (len(values), 1))
    quantizer.set_amax(values.abs().amax(1, keepdim=True) * factor)
    return QuantizedWeight(quantizer, values, 0, 1, None)


@pytest.mark.parametrize(
    ("factor", "fault"), [(0.79, "narrow"), (0.81, None), (1.0, None), (1.24, None), (2.0, "wide")]
)
def test_one_channel_of_a_weight_is_found(factor: float, fault: str | None) -> None:
    values = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    factors = torch.ones(6, 1)
    factors[4] = factor
    row = check_weight("fc.weight_quantizer", quantized(values, factors), judged=True)
    assert (row.fault, row.of) == (fault, "weight")
    if factor != 1:
        largest = float(values[4].abs().max())
        assert (row.found[1], row.ratio) == (pytest.approx(largest), pytest.approx(factor))
    within = values.abs() <= values.abs().amax(1, keepdim=True) * factors * (1 + 1 / 254)
    assert row.clipped == round(100 * float((~within).float().mean()), 4)


def test_a_weight_that_lies_on_its_grid_is_not_judged_and_off_it_is() -> None:
    values, on = torch.randn(4, 40, generator=torch.Generator().manual_seed(1)), grid(bits=4)
    wide = values.abs().amax(1, keepdim=True) * 1.5
    rounded = fake_quantize(values, wide, on)
    weight = quantized(rounded, torch.ones(4, 1), bits=4, calibrator="mse")
    weight.quantizer.set_amax(wide)
    assert check_weight("w", weight, judged=True).judged is False
    weight.quantizer.set_amax(2 * wide)
    assert check_weight("w", weight, judged=True).fault == "wide"
    assert check_weight("w", weight, judged=False).fault is None


def test_each_group_of_a_transposed_convolution_has_channels_of_its_own() -> None:
    torch.manual_seed(0)
    model = qzoo.quantize(nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2)), "int8", example=torch.zeros(1, 4, 4, 4))
    qzoo.calibrate(model, torch.randn(16, 4, 4, 4))
    own: Any = model[0]
    own.weight_quantizer.amax[1, 0, 2] *= 3
    (row,) = qzoo.check(model, torch.randn(16, 4, 4, 4), logits=lambda y: y.mean((2, 3))).faults
    assert (row.path, row.fault, row.ratio) == ("0.weight_quantizer", "wide", pytest.approx(3.0))
    # Group 1 has the inputs 2 and 3; its third channel is that of index 2.
    assert row.found[1] == pytest.approx(float(own.weight[2:, 2].detach().abs().max()))
