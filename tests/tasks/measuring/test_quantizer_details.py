"""What quantizers do, held against arithmetic on the tensors themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.results.details import QuantizerDetail
from qzoo.tasks.inputs.batches import as_batches
from qzoo.tasks.measuring.quantizer_details import quantizer_details
from tests.each import for_each

IMAGES = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    torch.manual_seed(0)
    made = qzoo.quantize(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), "int8")
    return qzoo.calibrate(made, [IMAGES]) or made


def found(made: nn.Module, **options: object) -> dict[str, QuantizerDetail]:
    batches = as_batches([IMAGES], torch.device("cpu"), None)
    return {one.path: one for one in quantizer_details(made, batches, **options)}  # type: ignore[arg-type]


def decibels(x: Tensor, y: Tensor) -> float:
    exact, noisy = x.detach().double(), y.detach().double()
    return 10 * math.log10(float(exact.square().sum() / (exact - noisy).square().sum()))


def test_order_and_noise() -> None:
    made = model()
    details = found(made)
    assert [*details] == ["0.input_quantizer", "0.weight_quantizer", "2.input_quantizer", "2.weight_quantizer"]
    with torch.no_grad():
        first, second = made[0], made[2]
        x = first.input_quantizer(IMAGES)
        weight = first.weight_quantizer(first.weight)
        hidden = torch.relu(x @ weight.T + first.bias)
        in_float = torch.relu(IMAGES @ first.weight.T + first.bias)
        quantized = second.input_quantizer(hidden)
    assert details["0.input_quantizer"].own_sqnr_db == pytest.approx(decibels(IMAGES, x), abs=0.01)
    assert details["0.input_quantizer"].sqnr_db == details["0.input_quantizer"].own_sqnr_db
    assert details["0.weight_quantizer"].own_sqnr_db == pytest.approx(decibels(first.weight, weight), abs=0.01)
    assert details["2.input_quantizer"].own_sqnr_db == pytest.approx(decibels(hidden, quantized), abs=0.01)
    assert details["2.input_quantizer"].sqnr_db == pytest.approx(decibels(in_float, quantized), abs=0.01)


def test_what_is_clipped() -> None:
    made = model()
    quantizer = quantizers(made)["0.input_quantizer"]
    quantizer.set_amax(torch.tensor(1.0))
    one = found(made)["0.input_quantizer"]
    half = 1 / 127 / 2
    beyond = float((IMAGES.abs() > 1 + half).float().mean())
    assert one.clipped == pytest.approx(100 * beyond, abs=100 / IMAGES.numel())
    assert (one.range, one.amax) == ((-1.0, 1.0), 1.0)
    assert one.seen is not None
    assert (one.seen.low, one.seen.high) == (float(IMAGES.min()), float(IMAGES.max()))


def test_the_model_is_left_as_it_was() -> None:
    made = model().train()
    before = made(IMAGES)
    found(made)
    assert made.training
    assert torch.equal(made(IMAGES), before)
    assert not [one for one in quantizers(made).values() if one._forward_hooks]


def test_a_quantizer_that_is_off_is_none() -> None:
    made = model()
    quantizers(made)["0.input_quantizer"].state = "off"
    assert "0.input_quantizer" not in found(made)


def test_a_model_without_ranges_is_refused() -> None:
    with pytest.raises(qzoo.NotCalibratedError):
        found(qzoo.quantize(nn.Sequential(nn.Linear(4, 8)), "int8"))


@for_each("name", ["resnet8_digits_int8", "resnet8_digits_fp8", "resnet8_digits_w2a2_qat"])
def test_of_the_zoo(name: str) -> None:
    made = qzoo.create(name, pretrained=True)
    images = as_batches([torch.rand(8, 1, 8, 8)], torch.device("cpu"), None)
    details = quantizer_details(made, images)
    assert {one.path for one in details} == {path for path, one in quantizers(made).items() if one.state != "off"}
    assert all(one.seen is not None and one.clipped is not None for one in details)
