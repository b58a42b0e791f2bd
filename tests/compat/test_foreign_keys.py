from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.compat import export_state_dict, load_state_dict
from qzoo.compat.foreign_keys import TOOLKITS, translate
from qzoo.errors import NotCalibratedError, UnknownNameError, UnsupportedError
from tests.each import for_each

ONE = torch.tensor(1.0)


@for_each(
    ("key", "range_key"),
    [
        ("conv1._input_quantizer._amax", "conv1.input_quantizer.amax"),
        ("layer1.0.conv1._weight_quantizer._amax", "layer1.0.conv1.weight_quantizer.amax"),
        ("layer1.0.residual_quantizer._amax", "layer1.0.residual_quantizer.amax"),
        ("conv1.input_quantizer._amax", "conv1.input_quantizer.amax"),
        ("conv1.output_quantizer._amax", "conv1.output_quantizer.amax"),
        ("_input_quantizer._amax", "input_quantizer.amax"),
        ("conv1.input_quantizer.amax", "conv1.input_quantizer.amax"),
    ],
)
@for_each("wrapper", ["", "module.", "module._orig_mod."])
def test_keys_of_ranges(key: str, range_key: str, wrapper: str) -> None:
    translated = translate({wrapper + key: ONE})
    assert translated.ranges == {range_key: ONE}
    assert translated.origin == {range_key: wrapper + key}
    assert translated.wrapper == wrapper


def test_only_what_all_keys_share_is_a_wrapper() -> None:
    translated = translate({"module.fc.weight": ONE, "fc._input_quantizer._amax": ONE})
    assert translated.wrapper == ""
    assert list(translated.weights) == ["module.fc.weight"]


def test_a_learned_range_is_that_of_its_bounds() -> None:
    state = {
        "fc._input_quantizer._amax": ONE,
        "fc._input_quantizer.clip.clip_value_min": torch.tensor(-3.0),
        "fc._input_quantizer.clip.clip_value_max": torch.tensor(2.0),
    }
    assert translate(state).ranges == {"fc.input_quantizer.amax": torch.tensor(3.0)}
    assert translate({key: state[key] for key in list(state)[1:]}).ranges == {
        "fc.input_quantizer.amax": torch.tensor(3.0)
    }


def test_bounds_that_are_numbers_and_one_that_is_alone() -> None:
    both = {"q.clip.clip_value_min": -3.0, "q.clip.clip_value_max": 2.0}
    assert translate(both).ranges == {"q.amax": torch.tensor(3.0)}
    assert translate({"q.clip.clip_value_min": -3.0}).strange == ["q.clip.clip_value_min"]


def test_keys_that_are_no_text() -> None:
    assert translate({0: ONE}).weights == {"0": ONE}  # type: ignore[dict-item]


def test_what_is_neither_weight_nor_range_is_strange() -> None:
    state = {
        "fc.weight": ONE,
        "fc._input_quantizer._pre_quant_scale": ONE,
        "fc.weight_quantizer._scale": ONE,
        "fc._extra_state": "text",
        "attention._mask": ONE,  # a buffer of the float model
    }
    translated = translate(state)
    assert translated.strange == [
        "fc._input_quantizer._pre_quant_scale",
        "fc.weight_quantizer._scale",
        "fc._extra_state",
    ]
    assert list(translated.weights) == ["fc.weight", "attention._mask"]


@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_there_and_back(toolkit: str) -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    state = export_state_dict(model, toolkit)  # type: ignore[arg-type]
    private = toolkit == "pytorch-quantization"
    assert ("conv1._input_quantizer._amax" in state) == private
    assert ("conv1.input_quantizer._amax" in state) == (not private)
    back = qzoo.create("resnet8_digits_int8")
    load_state_dict(back, state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, back.state_dict()[key]), key


def test_a_residual_quantizer_keeps_its_name() -> None:
    model = qzoo.quantize(Skip(), "int8", residual="skip", example=torch.randn(1, 4))
    qzoo.calibrate(model, [torch.randn(8, 4)])
    assert "residual_quantizer._amax" in export_state_dict(model)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).relu()


def test_mistakes() -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    with pytest.raises(UnknownNameError, match=r"Unknown toolkit 'modelopt'. Did you mean 'model-optimizer'?"):
        export_state_dict(model, "modelopt")  # type: ignore[arg-type]
    with pytest.raises(NotCalibratedError, match="Can't export the state dict: 17 quantizers have no range"):
        export_state_dict(qzoo.create("resnet8_digits_int8"))
    with pytest.raises(NotCalibratedError, match="This model has no quantizers"):
        export_state_dict(nn.Linear(2, 2))
    unsigned = qzoo.quantize(nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), "int8_ort")
    qzoo.calibrate(unsigned, [torch.rand(8, 4)])
    with pytest.raises(UnsupportedError, match=r"1 quantizers are unsigned because .* \(1.input_quantizer ...\)"):
        export_state_dict(unsigned)
    asymmetric = qzoo.calibrate(qzoo.quantize(nn.Sequential(nn.Linear(4, 2)), "int8_asym"), [torch.rand(8, 4)])
    with pytest.raises(UnsupportedError, match=r"0.input_quantizer has a zero point, and ranges of pytorch-quanti"):
        export_state_dict(asymmetric)
