"""Models adapted to a runtime: its rules are kept, and the ranges are those that there were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import qzoo
from qzoo.errors import NotCalibratedError, UnsupportedError
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.quant.fake_quant import represented
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.schema.resolution.call import with_call
from qzoo.tasks.adapt import adapt, adapted
from qzoo.zoo.name_lookup import find
from tests.runtimes.conftest import digits, network

ORT, TENSORRT = runtime_named("onnxruntime"), runtime_named("tensorrt")


def given(scheme: str = "int8", residual: str | None = "skip") -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(network(), scheme, residual=residual, example=digits(1)), [digits()])


def test_known_ranges_stay_and_signs_are_those_of_the_tensors() -> None:
    model = given()
    before, found = get_ranges(model), adapt(model, ORT, [digits()])
    after = get_ranges(found)
    assert {key for key in before if not torch.equal(before[key], after[key])} == set()
    added = {key.removesuffix(".amax") for key in after.keys() - before.keys() if key.endswith("amax")}
    assert added == {"3.residual_main_quantizer", "4.residual_main_quantizer"}
    unsigned = {path for path, one in quantizers(found).items() if one.grid.low == 0}
    assert {"3.conv2.input_quantizer", "5.input_quantizer"} <= unsigned
    assert not unsigned & {"0.input_quantizer", "3.residual_main_quantizer", "0.weight_quantizer"}
    assert quantizers(model)["3.conv2.input_quantizer"].grid.low < 0, "the model itself is as it was"


def test_new_readers_of_a_tensor_get_its_range() -> None:
    model = given(residual=None)
    quantizers(model)["3.conv1.input_quantizer"].set_amax(torch.tensor(0.625))
    found = adapt(model, ORT, [digits()])
    assert quantizers(found)["3.residual_quantizer"].amax == 0.625
    assert ["3.conv1.input_quantizer", "3.residual_quantizer"] in shared_quantizers(found)


def test_zero_points_stay_where_the_runtime_has_them() -> None:
    model = given("int8_asym")
    before, after = get_ranges(model), get_ranges(adapt(model, ORT, [digits()]))
    assert all(torch.equal(before[key], after[key]) for key in before)
    added = {key.rpartition(".")[2] for key in after.keys() - before.keys()}
    assert added == {"amax", "zero_point"}


def test_for_tensorrt_a_range_with_a_zero_point_becomes_one_of_magnitudes() -> None:
    model = given("int8_asym", None)
    found = quantizers(adapt(model, TENSORRT, [digits()]))
    assert all(one.zero_point is None and one.grid.low < 0 for one in found.values())
    for path, one in quantizers(model).items():
        if one.zero_point is not None:
            low, high = represented(one.amax, one.grid, one.zero_point)
            # The lowest value of int8, -128, lies a step beyond -amax.
            assert float(found[path].amax) == pytest.approx(max(-float(low) * 127 / 128, float(high)))


def test_trained_weights_are_adapted_as_they_are() -> None:
    model = given("w4a4", None)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    found = adapt(model, ORT, [digits()])
    assert torch.equal(found[0].weight, model[0].weight)
    assert quantizers(found)["3.conv1.weight_quantizer"].spec.bits == 4


def test_for_tensorrt_all_is_signed_and_the_skip_alone_quantized() -> None:
    found = adapt(given("int8_ort", None), TENSORRT, [digits()])
    assert all(one.grid.low < 0 for one in quantizers(found).values())
    assert {path for path in quantizers(found) if "residual" in path} == {
        "3.residual_quantizer",
        "4.residual_quantizer",
    }


def with_zero_points(weights: bool | str, inputs: bool | str = False) -> nn.Module:
    rule = {"match": {"type": "weighted"}, "weight": {"symmetric": weights}, "input": {"symmetric": inputs}}
    model = qzoo.quantize(network(), "int8_asym", residual="skip", example=digits(1), rules=[rule])
    return qzoo.calibrate(model, [digits()])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_zero_points_stay_where_a_runtime_computes_with_them(runtime: str) -> None:
    model = with_zero_points(weights=False)
    before, after = quantizers(model), quantizers(adapt(model, runtime_named(runtime), [digits()]))
    kept = {path for path, one in after.items() if path in before and one.zero_point is not None}
    inputs = {path for path in before if not path.endswith("weight_quantizer")}
    assert kept == (set(before) if runtime == "onnxruntime" else inputs)
    for path in kept:
        assert torch.equal(after[path].amax, before[path].amax)
        assert torch.equal(after[path].zero_point, before[path].zero_point)


def test_a_range_with_half_of_it_below_zero_keeps_its_steps_for_tensorrt() -> None:
    model = with_zero_points(weights="auto", inputs="auto")
    before = quantizers(model)
    for one in before.values():
        one.set_amax(one.amax, None, torch.full_like(one.zero_point, 128))  # type: ignore[arg-type]
    after = quantizers(adapt(model, TENSORRT, [digits()]))
    assert {one.zero_point for one in after.values()} == {None}
    for path, one in after.items():
        torch.testing.assert_close(one.amax / 127, before[path].amax / 255, rtol=1e-6, atol=0)


def test_weights_of_fewer_bits_get_zero_points_of_their_own() -> None:
    model = with_zero_points(weights=False)
    old, new = (
        quantizers(one)["3.conv1.weight_quantizer"] for one in (model, adapt(model, ORT, [digits()], reduce_range=True))
    )
    assert new.spec.bits == 7
    ends, found = (represented(one.amax, one.grid, one.zero_point) for one in (old, new))
    for end, own in zip(ends, found, strict=True):
        assert bool(((end - own).abs() <= 0.51 * new.amax / 127).all()), "within half a step"


@pytest.mark.parametrize(("scheme", "bits"), [("int8", 7), ("w4a4", 4)])
def test_a_reduced_range_has_weights_of_seven_bits_at_most(scheme: str, bits: int) -> None:
    found = adapt(given(scheme, None), ORT, [digits()], reduce_range=True)
    weights = {path: one for path, one in quantizers(found).items() if path.endswith("weight_quantizer")}
    assert {one.spec.bits for path, one in weights.items() if path.startswith("3")} == {bits}
    assert quantizers(found)["3.conv1.input_quantizer"].spec.bits == (8 if scheme == "int8" else 4), "weights alone"


MIXED = """\
version: 1
base: {source: qzoo, architecture: resnet8_digits}
dataset: digits
calibration: {images: 128}
variants:
  mixed:
    scheme: w4a4
    rules:
      - {match: {name: "0"}, weight: {bits: 8}, why: "first layer at 8 bits"}
"""


def test_a_reduced_range_holds_for_layers_with_rules_of_their_own_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MIXED)
    variant = find(f"{tmp_path / 'mine.yaml'}:mixed").resolved
    model = qzoo.calibrate(qzoo.quantize(network(), variant, example=digits(1)), [digits()])
    assert quantizers(model)["0.weight_quantizer"].spec.bits == 8
    found = quantizers(adapt(model, ORT, [digits()], reduce_range=True))
    assert (found["0.weight_quantizer"].spec.bits, found["3.conv1.weight_quantizer"].spec.bits) == (7, 4)


def test_a_runtime_wins_over_a_call_and_rules_of_layers_over_both(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MIXED)
    rules = [{"match": {"name": "3"}, "residual": "none"}]
    variant = with_call(
        find(f"{tmp_path / 'mine.yaml'}:mixed").resolved, residual="skip", calibrator="mse", skip=["4"], rules=rules
    )
    found = adapted(variant, ORT)
    assert found.residual is not None
    assert found.residual.placement == "both"
    assert [rule.origin.field for rule in found.rules] == [
        *(f"scheme w4a4 rules.{n}" for n in (0, 1)), "residual", "calibrator", *3 * ["--adapt"],
        "variants.mixed.rules.0", "skip[0]", "rules[0]",
    ]  # fmt: skip


def test_what_can_not_be_adapted_is_refused() -> None:
    with pytest.raises(NotCalibratedError, match="Can't adapt the model to ONNX Runtime: 13 quantizers have no range"):
        adapt(qzoo.quantize(network(), "int8"), ORT, [digits()])
    with pytest.raises(UnsupportedError, match="fp8 quantizes to e4m3; --adapt derives integer variants"):
        adapt(given("fp8", None), ORT, [digits()])


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("scheme", ["int8", "int8_ort", "w4a8"])
def test_what_is_adapted_fits(scheme: str, runtime: str, tmp_path: Path) -> None:
    model = given(scheme, "both" if scheme == "int8_ort" else None)
    report = qzoo.export(model, tmp_path / "a.onnx", runtime, images=[digits()], example=digits(1), adapt_on=[digits()])
    assert [finding for finding in report.findings if finding.level == "error"] == []
    assert report.name == f"{scheme}_for_{runtime}"
    assert report.parity is not None
    assert report.parity.first_diverging is None
    assert report.parity.agreement_plain >= 96


@pytest.mark.runtimes
def test_a_resnet_with_downsamples_fits_and_does_not_overflow(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 64, 64)
    model = qzoo.calibrate(qzoo.quantize(torchvision.models.resnet18(), "int8", example=x[:1]), [x])
    rules = {"adapt_on": [x], "reduce_range": True}
    report = qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", example=x[:1], **rules)
    assert [finding.rule for finding in report.findings] == []
    assert report.quantized_layers == report.layers == 21
