from __future__ import annotations

import copy
import warnings

import pytest
import torch

from qzoo.quant.collectors import MaxCollector
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.quantizer import Notice, TensorQuantizer, UncalibratedWarning
from qzoo.schema.calibrator import Calibrator
from qzoo.schema.quantizer import QuantizerSpec

X = torch.tensor([-3.0, -0.26, 0.0, 0.26, 3.0])


def calibrated(amax: float = 1.0, **spec: object) -> TensorQuantizer:
    quantizer = TensorQuantizer(QuantizerSpec(**spec))  # type: ignore[arg-type]
    quantizer.set_amax(torch.tensor(amax))
    return quantizer


def test_off_passes() -> None:
    quantizer = TensorQuantizer(QuantizerSpec())
    assert quantizer.state == "off"
    assert not quantizer.calibrated
    assert quantizer(X) is X


def test_calibrating_passes_and_shows_the_collector() -> None:
    quantizer = TensorQuantizer(QuantizerSpec())
    quantizer.collector, quantizer.state = MaxCollector(), "calibrating"
    assert quantizer(X) is X
    assert (quantizer.collector.amin.item(), quantizer.collector.amax.item()) == (-3, 3)


def test_quantizing_is_the_function() -> None:
    quantizer = calibrated(bits=4)
    assert quantizer.state == "quantizing"
    assert torch.equal(quantizer(X), fake_quantize(X, torch.tensor(1.0), grid(bits=4)))


def test_auto_becomes_what_calibration_found() -> None:
    for found in (True, False):
        quantizer = TensorQuantizer(QuantizerSpec(unsigned="auto"))
        quantizer.set_amax(torch.tensor(1.0), unsigned=found)
        assert torch.equal(quantizer(X), fake_quantize(X, torch.tensor(1.0), grid(unsigned=found)))
        again = TensorQuantizer(QuantizerSpec(unsigned="auto"))
        again.load_state_dict(quantizer.state_dict())
        assert torch.equal(again(X), quantizer(X))


def test_a_state_dict_switches_it_on_and_one_without_a_range_off() -> None:
    one, other = calibrated(2.0), TensorQuantizer(QuantizerSpec())
    blank = copy.deepcopy(other.state_dict())
    other.load_state_dict(one.state_dict())
    assert other.state == "quantizing"
    assert torch.equal(other(X), one(X))
    other.load_state_dict(blank)
    assert other.state == "off"
    assert other(X) is X


@pytest.mark.parametrize(
    ("amax", "text"),
    [
        (torch.ones(2), r"amax has shape \(2,\); this quantizer's is \(\)"),
        (torch.tensor(-1.0), "amax has to be finite and at least 0"),
        (torch.tensor(torch.nan), "amax has to be finite and at least 0"),
        (torch.tensor(torch.inf), "amax has to be finite and at least 0"),
    ],
)
def test_ranges_that_are_none(amax: torch.Tensor, text: str) -> None:
    quantizer = calibrated(2.0)
    with pytest.raises(ValueError, match=text):
        quantizer.set_amax(amax)
    assert quantizer.amax == 2


def test_quantizers_that_share_a_notice_warn_once() -> None:
    notice = Notice()
    first, second = (TensorQuantizer(QuantizerSpec(), notice=notice) for _ in range(2))
    with pytest.warns(UncalibratedWarning, match=r"This model is not calibrated: its activations stay in float\."):
        first(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second(X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_range_stays_float32(dtype: torch.dtype) -> None:
    quantizer = calibrated(1 / 3)
    assert quantizer.to(dtype).amax.dtype == torch.float32
    assert quantizer.amax == torch.tensor(1 / 3)
    assert quantizer(X.to(dtype)).dtype == dtype


def test_the_range_is_float32_whatever_the_default() -> None:
    try:
        torch.set_default_dtype(torch.float16)
        assert TensorQuantizer(QuantizerSpec()).amax.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_memory_given_to_a_skeleton_is_no_range() -> None:
    with torch.device("meta"):
        quantizer = TensorQuantizer(QuantizerSpec(unsigned="auto"))
    quantizer.to_empty(device="cpu")
    quantizer.load_state_dict({}, strict=False)
    assert not quantizer.calibrated
    assert quantizer.state == "off"


def test_a_state_dict_without_its_range_leaves_the_state() -> None:
    quantizer = calibrated()
    quantizer.state = "off"
    quantizer.load_state_dict({}, strict=False)
    assert quantizer.state == "off"


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        (TensorQuantizer(QuantizerSpec()), "TensorQuantizer(8bit per-tensor max, amax=?, off)"),
        (calibrated(0.12345678), "TensorQuantizer(8bit per-tensor max, amax=0.1235, quantizing)"),
        (calibrated(format="e4m3"), "TensorQuantizer(e4m3 per-tensor max, amax=1, quantizing)"),
        (
            calibrated(bits=4, unsigned=True, calibrator=Calibrator(method="percentile", percentile=99.9)),
            "TensorQuantizer(unsigned 4bit per-tensor percentile 99.9, amax=1, quantizing)",
        ),
    ],
)
def test_prints_as_one_line(quantizer: TensorQuantizer, text: str) -> None:
    assert repr(quantizer) == text


def test_prints_the_least_and_the_largest_of_many_ranges() -> None:
    quantizer = TensorQuantizer(QuantizerSpec(per="channel"), (3, 1))
    quantizer.set_amax(torch.tensor([[1.0], [0.5], [2.0]]))
    assert repr(quantizer) == "TensorQuantizer(8bit per-channel max, amax=0.5..2 (3), quantizing)"
    assert "amax=?" in repr(TensorQuantizer(QuantizerSpec()).to("meta"))
