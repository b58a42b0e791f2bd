"""Wrong ranges are found from images without labels, sound ones raise no alarm, and the model stays as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from benchmarks.planted_ranges import FACTORS, measured, sample
from qzoo.errors import CalibrationError, DataError, NotCalibratedError, UnsupportedError
from qzoo.quant.ranges import get_ranges, quantizers
from tests.each import for_each

NAME = "resnet8_digits_int8"
VARIANTS = ("int8", "int8_max", "int8_mse", "int8_entropy", "fp8", "w4a4", "w4a8", "w2a2_opt", "w4a4_qat")


@cache
def calibrated(name: str = NAME) -> nn.Module:
    return qzoo.create(name, pretrained=True)


@cache
def digits(seed: int = 0) -> list[Tensor]:
    return [x for x, _ in sample(NAME, seed, None)]


def planted(path: str, factor: float, name: str = NAME) -> nn.Module:
    model = copy.deepcopy(calibrated(name))
    model.get_buffer(f"{path}.amax").mul_(factor)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_sound_ranges_raise_no_alarm(variant: str) -> None:
    found = qzoo.check(calibrated(f"resnet8_digits_{variant}"), digits(3))
    assert (found.verdict, found.faults) == ("fine", [])


@pytest.mark.parametrize("seed", [5, 6])
def test_each_range_that_is_wrong_is_found_and_no_other(seed: int) -> None:
    case = measured(calibrated(), sample(NAME, seed, None), seed, random.Random(seed))
    assert case.sound == "fine"
    assert case.found
    assert (case.missed, case.planted) == ([], 2 * 9)


@for_each("factor", FACTORS)
def test_a_weight_is_found_too_and_told_with_what_its_values_give(factor: float) -> None:
    path, model = "layer2.conv2.weight_quantizer", copy.deepcopy(calibrated())
    model.get_buffer(f"{path}.amax")[3] *= factor
    found = qzoo.check(model, digits())
    (row,) = found.faults
    assert (row.path, row.fault, row.ratio) == (path, FACTORS[factor], pytest.approx(factor))
    assert row.found[1] == pytest.approx(float(model.get_parameter("layer2.conv2.weight")[3].detach().abs().max()))
    assert (found.verdict, found.quantizers[0]) == ("layers", row)


def test_agreement_and_noise_are_those_of_the_two_models() -> None:
    model = planted("layer3.conv1.input_quantizer", 0.1)
    found, (images,) = qzoo.check(model, digits()), digits()
    with torch.no_grad():
        quantized, exact = model(images), qzoo.create("resnet8_digits", pretrained=True)(images)
    agreeing = int((quantized.argmax(1) == exact.argmax(1)).sum())
    assert agreeing < 64
    assert (found.images, found.agreement) == (64, round(100 * agreeing / 64, 4))
    # Wilson's interval, from its formula.
    share, z = agreeing / 64, 1.959964
    middle, reach = share + z * z / 128, z * (share * (1 - share) / 64 + z * z / (4 * 64 * 64)) ** 0.5
    assert found.ci95 == tuple(pytest.approx(100 * (middle + s * reach) / (1 + z * z / 64), abs=0.01) for s in (-1, 1))
    noise = 10 * torch.log10(exact.square().sum() / (exact - quantized).square().sum())
    assert found.sqnr_db == pytest.approx(float(noise), abs=1e-3)


def test_images_that_are_another_kind_call_for_another_calibration() -> None:
    found = qzoo.check(calibrated(), [3 * x + 2 for x in digits()])
    assert found.verdict == "recalibrate"
    assert all(one.fault == "narrow" for one in found.faults)


def test_a_model_whose_bits_are_too_few_is_not_blamed_on_its_ranges() -> None:
    net = qzoo.create("resnet8_digits", pretrained=True)
    rule = {"match": {"type": "weighted"}, "weight": {"bits": 2}, "input": {"bits": 2}}
    model = qzoo.calibrate(qzoo.quantize(net, "w4a4", rules=[rule]), digits(1))
    found = qzoo.check(model, digits())
    assert (found.verdict, found.faults) == ("low agreement", [])
    assert "too few bits" in found.sentence


def test_the_model_is_as_it_was() -> None:
    model = calibrated()
    before, states = get_ranges(model), {path: one.state for path, one in quantizers(model).items()}
    model.train()
    qzoo.check(model, digits())
    assert model.training
    model.eval()
    assert all(torch.equal(before[key], value) for key, value in get_ranges(model).items())
    assert {path: one.state for path, one in quantizers(model).items()} == states


def test_what_is_off_stays_off_and_is_not_judged() -> None:
    model = planted("layer1.conv1.input_quantizer", 0.5)
    quantizers(model)["layer1.conv1.input_quantizer"].state = "off"
    found = qzoo.check(model, digits())
    assert found.verdict == "fine"
    assert "layer1.conv1.input_quantizer" not in [one.path for one in found.quantizers]


def test_batches_of_any_form_and_size_give_the_same() -> None:
    (images,) = digits()
    whole = qzoo.check(calibrated(), images)
    labelled = qzoo.check(calibrated(), [(x, torch.zeros(len(x), dtype=torch.int64)) for x in images.split(32)])
    named = qzoo.check(calibrated(), [{"pixels": images}], to_inputs=lambda item: item["pixels"])
    for other in (labelled, named):
        assert [one.ratio for one in other.quantizers] == [one.ratio for one in whole.quantizers]
        assert other.agreement == whole.agreement


def test_a_variant_of_other_weights_is_held_against_its_base_by_name() -> None:
    found = qzoo.check("resnet8_digits_w4a4_qat")
    trained = calibrated("resnet8_digits_w4a4_qat")
    base = qzoo.create("resnet8_digits", pretrained=True)
    assert found.sqnr_db == qzoo.check(trained, digits(), float_model=base).sqnr_db
    assert found.sqnr_db != qzoo.check(trained, digits()).sqnr_db
    assert not any(one.judged for one in found.quantizers)


def test_ranges_that_a_training_learned_are_not_judged_until_they_are_calibrated_again() -> None:
    model: Any = copy.deepcopy(calibrated("resnet8_digits_w4a4"))
    labelled = list(sample(NAME, 2, None))
    qzoo.finetune(model, labelled, epochs=1, lr=1e-6, scales="learned")
    quantizers(model)["conv1.input_quantizer"].amax.mul_(2)
    assert not any(one.judged for one in qzoo.check(model, digits()).quantizers)
    again = qzoo.check(qzoo.calibrate(model, digits()), digits())
    assert all(one.judged for one in again.quantizers)
    # Without the quarter that makes each largest, on the images that they were calibrated on.
    assert again.verdict == "fine"


def nothing() -> Iterator[Tensor]:
    yield from ()


@for_each(("model", "images", "kind", "message"), lambda: [
    (calibrated(), nothing(), DataError, r"got 0 images, of which nothing follows for ranges; expected at least 16"),
    (calibrated(), digits()[0][:7], DataError, r"check\(\) got 7 images"),
    (calibrated(), torch.zeros(8, 3, 8, 8), DataError, r"float32 \(2, 3, 8, 8\): .* takes float32 \(N, 1, H, W\)"),
    (calibrated(), torch.full((8, 1, 8, 8), torch.nan), DataError, r"holds NaN or Inf. Look at the images"),
    (qzoo.create(NAME, pretrained="float"), digits(), NotCalibratedError, r"Can't check its ranges: 17 quantizers"),
    (qzoo.create("resnet8_digits"), digits(), NotCalibratedError, r"This model has no quantizers. Make it with"),
])  # fmt: skip
def test_what_can_not_be_checked(model: nn.Module, images: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        qzoo.check(model, images)


def test_a_model_with_everything_off_is_refused() -> None:
    model = copy.deepcopy(calibrated())
    for one in quantizers(model).values():
        one.state = "off"
    with pytest.raises(NotCalibratedError, match=r"Every quantizer of this model is off: quantizer.state = 'quant"):
        qzoo.check(model, digits())


def test_a_layer_that_nothing_reaches_is_told() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.idle = nn.Linear(4, 4), nn.Linear(4, 3), False

        def forward(self, x: Tensor) -> Tensor:
            x = x if self.idle else self.one(x)
            found: Tensor = self.two(x)
            return found

    model: Any = qzoo.calibrate(qzoo.quantize(Idle(), "int8"), torch.randn(16, 4))
    model.idle = True
    with pytest.raises(CalibrationError, match=r"Nothing reached one.input_quantizer"):
        qzoo.check(model, torch.randn(16, 4))


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qzoo.tasks.check.world_size", lambda: 2)
    with pytest.raises(UnsupportedError, match=r"A check runs in one process, not in 2. Start it without torchrun"):
        qzoo.check(calibrated(), digits())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["int8", "int8_asym", "fp8"])
def test_on_cifar_every_planted_range_is_found(
    variant: str, data_root: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    name = f"resnet20_cifar10_{variant}"
    model, drawn = qzoo.create(name, pretrained=True), random.Random(0)
    cases = [measured(model, sample(name, seed, data_root), seed, drawn) for seed in range(20, 25)]
    assert [case.sound for case in cases] == ["fine"] * 5
    missed = [path for case in cases for path, _ in case.missed]
    by_max = [path for path, one in quantizers(model).items() if one.spec.calibrator.method == "max"]
    assert [path for path in missed if path not in by_max] == []
    # Of maxima a range of twice the size may just be one of many more images, and the other way round.
    assert len(missed) <= 0.05 * sum(case.planted for case in cases)
