from __future__ import annotations

import pytest
import torch
from torch import nn

from qzoo.errors import NotCalibratedError, WeightsError
from qzoo.quant.layers import quantize_layer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import get_ranges, quantizers, require_calibrated, set_ranges, uncalibrated
from qzoo.schema.quantizer import QuantizerSpec


@pytest.fixture
def model() -> nn.Module:
    made = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    for layer in made:
        auto = TensorQuantizer(QuantizerSpec(unsigned="auto"))
        weight = TensorQuantizer(QuantizerSpec(per="channel"), (layer.out_features, 1))
        quantize_layer(layer, {"input": auto, "weight": weight})
    return made


RANGES = {
    "0.input_quantizer.amax": torch.tensor(1.0),
    "0.input_quantizer.unsigned": torch.tensor(True),
    "0.weight_quantizer.amax": torch.ones(3, 1),
    "1.input_quantizer.amax": torch.tensor(2.0),
    "1.input_quantizer.unsigned": torch.tensor(False),
    "1.weight_quantizer.amax": torch.ones(2, 1),
}


def test_round_trip(model: nn.Module) -> None:
    assert list(quantizers(model, "input")) == ["0.input_quantizer", "1.input_quantizer"]
    set_ranges(model, RANGES)
    assert not uncalibrated(model)
    require_calibrated(model, "evaluate")
    assert {key: value.tolist() for key, value in get_ranges(model).items()} == {
        key: value.tolist() for key, value in RANGES.items()
    }
    assert quantizers(model)["0.input_quantizer"].grid.low == 0
    assert quantizers(model)["1.input_quantizer"].grid.low == -128


def test_ranges_are_copies(model: nn.Module) -> None:
    set_ranges(model, RANGES)
    get_ranges(model)["1.input_quantizer.amax"].zero_()
    assert get_ranges(model)["1.input_quantizer.amax"] == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"1.input_quantizer.amax": None}, r"1 missing \(1.input_quantizer.amax\), 0 unknown \(none\)"),
        ({"9.amax": torch.tensor(1.0)}, r"0 missing \(none\), 1 unknown \(9.amax\)"),
        ({"0.weight_quantizer.amax": torch.ones(4, 1)}, r"0.weight_quantizer.amax has shape \(4, 1\); the model's has"),
        (
            {"0.input_quantizer.amax": torch.tensor(-1.0)},
            "0.input_quantizer.amax holds a value that is negative or not",
        ),
        ({"0.input_quantizer.amax": torch.tensor(torch.nan)}, "holds a value that is negative or not finite"),
    ],
)
def test_ranges_that_do_not_fit_change_nothing(model: nn.Module, change: dict[str, torch.Tensor], text: str) -> None:
    changed = {key: value for key, value in (RANGES | change).items() if value is not None}
    with pytest.raises(WeightsError, match=text):
        set_ranges(model, changed)
    assert len(uncalibrated(model)) == 4


def test_a_model_without_ranges_is_refused(model: nn.Module) -> None:
    with pytest.raises(
        NotCalibratedError, match=r"Can't export: 4 quantizers have no range \(0.input_quantizer, .+ and 1"
    ):
        require_calibrated(model, "export")
