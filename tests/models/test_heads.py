from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import WeightsError
from qzoo.models.bases import base_digest, create_base
from qzoo.models.heads import ReplacedHeadWarning, fit_to_new_head, requantize_replaced
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.layers import QuantizedLayer
from qzoo.quant.ranges import get_ranges, quantizers, set_ranges, uncalibrated
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.resolve import resolve_scheme
from qzoo.weights.base_weights import NewHeadWarning

Quantize = Callable[..., nn.Module]
DIGITS = Base(source="qzoo", architecture="resnet8_digits")
X = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def without_head(ranges: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in ranges.items() if not key.startswith("linear.")}


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[key], others[key]) for key in some)


def with_classes(classes: int) -> nn.Module:
    with pytest.warns(NewHeadWarning):
        model = create_base(DIGITS, pretrained=True, num_classes=classes)
    quantize_in_place(model, resolve_scheme("int8"))
    return model


@pytest.fixture
def original(quantized: Quantize) -> nn.Module:
    return qzoo.calibrate(quantized(create_base(DIGITS, pretrained=True)), X)


class TestAnotherNumberOfClasses:
    def test_keeps_all_other_ranges_and_makes_the_new_weights(self, original: nn.Module) -> None:
        model, ranges = with_classes(3), get_ranges(original)
        fitted = fit_to_new_head(model, ranges)
        set_ranges(model, fitted)
        assert same(without_head(fitted), without_head(ranges))
        assert torch.equal(fitted["linear.input_quantizer.amax"], ranges["linear.input_quantizer.amax"])
        largest = model.linear.weight.detach().abs().amax(1, keepdim=True)
        assert torch.equal(model.linear.weight_quantizer.amax, largest)
        assert model(X).shape == (16, 3)

    def test_no_classes_need_no_ranges(self, original: nn.Module) -> None:
        model, ranges = with_classes(0), get_ranges(original)
        set_ranges(model, fit_to_new_head(model, ranges))
        assert same(get_ranges(model), without_head(ranges))

    def test_the_same_number_changes_nothing(self, original: nn.Module, quantized: Quantize) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = quantized(create_base(DIGITS, pretrained=True, num_classes=10))
        assert same(fit_to_new_head(model, get_ranges(original)), get_ranges(original))

    @pytest.mark.parametrize("classes", [3, 0])
    def test_a_saved_file_fits(self, classes: int, original: nn.Module, tmp_path: Path) -> None:
        file = qzoo.save(original, tmp_path / "x.ranges.safetensors")
        model = qzoo.load(with_classes(classes), file)
        assert not uncalibrated(model)
        assert same(without_head(get_ranges(model)), without_head(get_ranges(original)))

    def test_other_weights_elsewhere_are_still_another_base(self, original: nn.Module, tmp_path: Path) -> None:
        file, model = qzoo.save(original, tmp_path / "x.ranges.safetensors"), with_classes(3)
        with torch.no_grad():
            model.conv1.weight[0] += 1
        with pytest.raises(WeightsError, match="belongs to another base"):
            qzoo.load(model, file)


class TestReplacedLater:
    def test_is_quantized_like_the_old_one(self, original: nn.Module) -> None:
        old = original.linear.input_quantizer.amax.clone()
        original.linear = nn.Linear(64, 3)
        with pytest.warns(ReplacedHeadWarning, match=r"^linear was replaced after .* quantized like the old one"):
            assert requantize_replaced(original) == ["linear"]
        assert torch.equal(original.linear.input_quantizer.amax, old)
        largest = original.linear.weight.detach().abs().amax(1, keepdim=True)
        assert torch.equal(original.linear.weight_quantizer.amax, largest)

    def test_is_reported_once(self, original: nn.Module) -> None:
        original.linear = nn.Linear(64, 3)
        with pytest.warns(ReplacedHeadWarning):
            requantize_replaced(original)
        assert requantize_replaced(original) == []
        assert requantize_replaced(copy.deepcopy(original)) == []

    def test_before_calibration_it_stays_uncalibrated(self, quantized: Quantize) -> None:
        model = quantized(create_base(DIGITS))
        model.linear = nn.Linear(64, 3)
        with pytest.warns(ReplacedHeadWarning):
            requantize_replaced(model)
        assert "linear.weight_quantizer" in uncalibrated(model)

    def test_a_copy_is_mended_alone(self, original: nn.Module) -> None:
        other = copy.deepcopy(original)
        other.linear = nn.Linear(64, 3)
        with pytest.warns(ReplacedHeadWarning):
            requantize_replaced(other)
        assert original.linear.weight_quantizer.amax.shape == (10, 1)
        assert other.linear.input_quantizer is not original.linear.input_quantizer

    def test_follows_its_device_and_keeps_its_range(self, quantized: Quantize) -> None:
        model = quantized(nn.Sequential(nn.Linear(4, 4)))
        model[0] = nn.Linear(4, 2, device="meta")
        with pytest.warns(ReplacedHeadWarning):
            requantize_replaced(model)
        assert {quantizer.amax.device.type for quantizer in quantizers(model).values()} == {"meta"}

    def test_by_something_else_is_reported_once_and_stays_in_float(self, original: nn.Module) -> None:
        original.linear = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
        with pytest.warns(
            ReplacedHeadWarning, match=r"^linear \(by Sequential\) was replaced .* stays in float\. Repl"
        ):
            assert requantize_replaced(original) == []
        assert requantize_replaced(original) == []
        assert original(X).shape == (16, 3)

    def test_by_nothing_needs_no_words(self, original: nn.Module) -> None:
        original.linear = nn.Identity()
        assert requantize_replaced(original) == []

    @pytest.mark.parametrize("act", [
        lambda model, path: qzoo.calibrate(model, X),
        lambda model, path: qzoo.evaluate(model, X),
        qzoo.save,
    ], ids=["calibrate", "evaluate", "save"])  # fmt: skip
    def test_is_noticed_by(self, act: Callable[[nn.Module, Path], object], original: nn.Module, tmp_path: Path) -> None:
        original.linear = nn.Linear(64, 3)
        with pytest.warns(ReplacedHeadWarning, match="linear"):
            act(original, tmp_path / "x.ranges.safetensors")
        assert not uncalibrated(original)

    def test_is_quantized_for_good_by_what_changes_a_model_alone(self, original: nn.Module, tmp_path: Path) -> None:
        original.linear = nn.Linear(64, 3)
        for measure in (lambda: qzoo.evaluate(original, X), lambda: qzoo.save(original, tmp_path / "x")):
            with pytest.warns(ReplacedHeadWarning):
                measure()
            assert type(original.linear) is nn.Linear
        with pytest.warns(ReplacedHeadWarning):
            qzoo.load(original, tmp_path / "x")
        assert isinstance(original.linear, QuantizedLayer)
        assert torch.equal(original.linear.weight_quantizer.amax, original.linear.weight.abs().amax(1, keepdim=True))

    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit"])
    def test_by_timms_reset_classifier(self, name: str, quantized: Quantize) -> None:
        model = quantized(timm.create_model(name), amax=1.0)
        head = model.pretrained_cfg["classifier"]
        before = get_ranges(model)
        model.reset_classifier(5)
        with pytest.warns(ReplacedHeadWarning, match=head):
            assert head in requantize_replaced(model)
        after = get_ranges(model)
        assert after.keys() == before.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == [f"{head}.weight_quantizer.amax"]
        assert model.eval()(torch.rand(1, 3, *model.pretrained_cfg["input_size"][1:])).shape == (1, 5)

    def test_digest_is_of_the_new_weights(self, original: nn.Module) -> None:
        before = base_digest(original)
        original.linear = nn.Linear(64, 10)
        assert base_digest(original) != before
