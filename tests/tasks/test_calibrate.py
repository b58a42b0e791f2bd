from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.commands.settings import Settings
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.errors import CalibrationError, DataError, NotCalibratedError, UnknownNameError, UnsupportedError
from qzoo.quant.calibration.collecting import ClippedNegativesWarning, DeadActivationWarning, collecting, solve_ranges
from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.ranges import get_ranges, quantizers, uncalibrated
from qzoo.schema.quantizer import QuantizerPatch
from qzoo.tasks.calibrate import collect

IMAGES = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def digits(variant: str) -> nn.Module:
    return qzoo.create(f"resnet8_digits_{variant}", pretrained="float")


@pytest.mark.parametrize("variant", ["int8", "int8_max", "int8_mse", "int8_entropy", "w4a4", "fp8"])
def test_twice_is_bit_identical(variant: str) -> None:
    one, other = (get_ranges(qzoo.calibrate(digits(variant), IMAGES)) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_order_of_batches_does_not_matter() -> None:
    # The same batches, so that the convolutions round alike; only their order differs.
    batches = list(IMAGES.split(16))
    one, other = (get_ranges(qzoo.calibrate(digits("int8"), order)) for order in (batches, batches[::-1]))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_collecting_changes_nothing_of_the_model() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True).train()
    before, state = get_ranges(model), copy.deepcopy(model.state_dict())
    collection = collect(model, IMAGES)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in get_ranges(model).items())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert set(collection) == {path.removesuffix(".amax") for path in before if "weight_quantizer" not in path}


def test_while_collecting_the_model_is_the_float_model() -> None:
    model, plain = digits("int8"), qzoo.create("resnet8_digits", pretrained=True)
    with collecting(model), torch.no_grad():
        assert torch.equal(model(IMAGES), plain(IMAGES))


def test_one_collection_serves_every_solver() -> None:
    every = set(collect(digits("int8"), IMAGES[:1]))
    collection = collect(digits("int8"), IMAGES, histograms=every)
    for variant in ("int8", "int8_max", "int8_mse", "int8_entropy", "w4a8"):
        alone, shared = qzoo.calibrate(digits(variant), IMAGES), digits(variant)
        solve_ranges(shared, collection)
        assert all(torch.equal(value, get_ranges(shared)[key]) for key, value in get_ranges(alone).items()), variant


def test_shared_calibration_makes_one_pass_for_equal_specs() -> None:
    entry, _ = qzoo.schema.reading.catalog.Catalog.load().find("resnet8_digits")  # type: ignore[attr-defined]
    variants = [qzoo.schema.resolution.resolve.resolve(entry, name) for name in ("int8", "int8_max", "fp8")]  # type: ignore[attr-defined]
    passes: list[str] = []

    def counting(items, images, what):  # type: ignore[no-untyped-def]
        passes.extend([what] if images else [])  # of none is a phase of other work
        return items

    shared = SharedCalibration(
        qzoo.create("resnet8_digits", pretrained=True), variants, Settings(calib_images=32), counting
    )
    models = [shared.calibrated(variant)[0] for variant in variants]
    assert passes == ["calibrating"]
    assert not any(uncalibrated(model) for model in models)
    assert not shared.as_recipes_say


class Unused(nn.Module):
    """Has a layer that it calls for some images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) if bool((x > 0).all()) else self.unused(x)


def test_a_layer_that_is_never_called_stays_in_float() -> None:
    model = qzoo.calibrate(qzoo.quantize(Unused(), "int8", example=IMAGES.abs() + 1), IMAGES.abs() + 1)
    assert list(quantizers(model)) == ["used.input_quantizer", "used.weight_quantizer"]
    assert qzoo.explain(model).left_float == ["unused"]


def test_a_quantizer_that_saw_nothing_is_named() -> None:
    with pytest.raises(CalibrationError, match=r"Nothing reached unused.input_quantizer: .*input: false"):
        qzoo.calibrate(qzoo.quantize(Unused(), example=IMAGES), IMAGES.abs() + 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_images_that_hold_no_numbers_are_named_and_the_model_stays(value: float) -> None:
    model, images = digits("int8"), IMAGES.clone()
    images[5, 0, 3, 3] = value
    with pytest.raises(DataError, match=r"Item 0 of the images, float32 \(\d+, 1, 8, 8\), holds NaN or Inf\. Look at"):
        qzoo.calibrate(model, images)
    assert len(uncalibrated(model)) == 17


def test_only_zeros_are_reported() -> None:
    model = qzoo.quantize(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 3)))
    with pytest.warns(DeadActivationWarning, match=r"Only zeros reached 0.input_quantizer, 2.input_quantizer"):
        qzoo.calibrate(model, torch.zeros(2, 1, 8, 8))
    assert torch.equal(model(IMAGES)[0], model(IMAGES)[1])


def test_negative_values_of_an_unsigned_quantizer_are_reported() -> None:
    recipe = qzoo.recipe("resnet8_digits")
    variant = recipe.variants["int8"].model_copy(update={"input": QuantizerPatch(unsigned=True)})
    model = qzoo.create(recipe.model_copy(update={"variants": {"u": variant}}), "float", variant="u")
    with pytest.warns(ClippedNegativesWarning, match=r"Negative values reached conv1.input_quantizer, which are unsig"):
        qzoo.calibrate(model, IMAGES)


@pytest.mark.parametrize(
    ("layer", "first"),
    [("conv1", r"layer1\.conv1\.input_quantizer.* and \d+ more"), ("layer2.conv1", r"layer2\.conv2\.input_quantizer")],
)
def test_what_nan_in_a_weight_reached_is_named(layer: str, first: str) -> None:
    model = digits("int8")
    with torch.no_grad():
        model.get_submodule(layer).weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(CalibrationError, match=rf"NaN or Inf reached {first}"):
        qzoo.calibrate(model, IMAGES)


def test_no_images_and_no_quantizers() -> None:
    with pytest.raises(CalibrationError, match=r"Nothing reached conv1.input_quantizer"):
        qzoo.calibrate(digits("int8"), [])
    with pytest.raises(NotCalibratedError, match=r"This model has no quantizers. Make it with qzoo.create"):
        qzoo.calibrate(nn.Linear(2, 2), IMAGES)
    with pytest.raises(DataError, match="Item 0 of the images is int"):
        qzoo.calibrate(digits("int8"), [1])


def test_an_unknown_binning_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown binning 'alligned'. Did you mean 'aligned'"):
        qzoo.calibrate(digits("int8_max"), IMAGES, binning="alligned")


def test_images_of_a_wrong_kind() -> None:
    with pytest.raises(DataError, match=r"Item 0 of the images is uint8 \(2, 1, 8, 8\); expected floats, already"):
        qzoo.calibrate(digits("int8"), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"Item 0 of the images has 64 images but 60 labels"):
        qzoo.calibrate(digits("int8"), [(IMAGES, torch.zeros(60).long())])


def test_collectors_follow_from_the_solver() -> None:
    with collecting(digits("int8")) as by_percentile, warnings.catch_warnings():
        warnings.simplefilter("error")
    assert type(by_percentile["conv1.input_quantizer"]) is HistogramCollector
    with collecting(digits("int8_max")) as by_max:
        assert type(by_max["conv1.input_quantizer"]) is MaxCollector


def _closed_over() -> nn.Module:
    layer = nn.Linear(3, 4)
    before = layer.forward
    layer.forward = lambda x: before(x) * 2  # type: ignore[method-assign]
    return nn.Sequential(layer)


def test_weights_that_no_quantizer_sees_are_named(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "version: 1\nbase: {source: torchvision, architecture: resnet18}\ndataset: imagenet-1k\nscheme: int8\n"
        "variants: {weights: {input: false, weight: {bits: 2}}}\n"
    )
    quantized = qzoo.quantize(_closed_over().eval(), f"{recipe}:weights")
    with pytest.raises(CalibrationError, match="never reads the weight of 0 where a quantizer could see it"):
        qzoo.calibrate(quantized, [torch.rand(2, 3)])
    qzoo.calibrate(quantized, [])  # no image, nothing to be said


def test_a_lazy_layer_has_to_run_first() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
    with pytest.raises(UnsupportedError, match=r"^0, 2 of Sequential has no weights yet: a lazy layer makes them when"):
        qzoo.quantize(model, "int8")
    x = torch.rand(2, 3, 8, 8)
    model(x)
    assert qzoo.calibrate(qzoo.quantize(model, "int8"), [x])(x).shape == (2, 2)


def test_a_lazy_batch_norm_has_to_run_first() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(affine=False)).eval()
    with pytest.raises(UnsupportedError, match=r"^1 of Sequential has no weights yet: a lazy layer makes them when"):
        qzoo.quantize(model, "int8")
    model(torch.rand(2, 3, 8, 8))
    assert type(qzoo.quantize(model, "int8")[0]).__name__ == "QuantConv2d"
