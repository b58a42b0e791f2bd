from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.compat import export_state_dict, load_state_dict
from qzoo.compat.fitting import grouped
from qzoo.errors import UnknownNameError, WeightsError
from tests.compat.conftest import images, made_by_a_script, resnet18
from tests.runtimes.conftest import digits


@pytest.fixture
def state(scripted_digits: nn.Module) -> OrderedDict[str, Tensor]:
    return OrderedDict(scripted_digits.state_dict())


def target() -> nn.Module:
    return qzoo.create("resnet8_digits_int8")


def test_a_calibrated_torchvision_resnet_goes_there_and_back_bit_identical(scripted_resnet18: nn.Module) -> None:
    state, model = scripted_resnet18.state_dict(), qzoo.create("resnet18_int8")
    fit = load_state_dict(model, state)
    assert (fit.ranges, fit.unexpected, fit.missing, fit.wrong) == (43, [], [], {})
    with torch.no_grad():
        assert torch.equal(model(images()), scripted_resnet18(images()))
    back = export_state_dict(model)
    assert list(back) == list(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value), key
    again = made_by_a_script(resnet18, [images(1)])  # other ranges, until they are loaded
    again.load_state_dict(back)
    with torch.no_grad():
        assert torch.equal(again(images()), scripted_resnet18(images()))


def test_with_residual_quantizers_too() -> None:
    scripted = made_by_a_script(resnet18, [images()], residual=True)
    model = qzoo.create("resnet18_int8_residual")
    assert load_state_dict(model, scripted.state_dict()).ranges == 51
    with torch.no_grad():
        assert torch.equal(model(images()), scripted(images()))
    assert export_state_dict(model).keys() == scripted.state_dict().keys()


def test_the_real_model_predicts_the_same(scripted_digits: nn.Module, state: OrderedDict[str, Tensor]) -> None:
    model = target()
    load_state_dict(model, {f"module.{key}": value for key, value in state.items()})
    with torch.no_grad():
        assert torch.equal(model(digits(64)), scripted_digits(digits(64)))


def test_what_does_not_fit_is_all_said_and_nothing_is_changed(state: OrderedDict[str, Tensor]) -> None:
    state["fc2.weight"] = torch.ones(2)
    state["layer1.residual_quantizer._amax"] = torch.tensor(1.0)
    state["conv1._input_quantizer._pre_quant_scale"] = torch.tensor(1.0)
    del state["layer2.conv1._input_quantizer._amax"], state["bn1.bias"]
    state["conv1.weight"] = torch.ones(2, 2)
    state["layer1.conv1._weight_quantizer._amax"] = torch.ones(3, 1, 1, 1)
    state["layer1.conv2._input_quantizer._amax"] = torch.tensor(torch.nan)
    model = target()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as told:
        load_state_dict(model, state)
    for line in (
        "unexpected, 3 keys: fc2.weight, layer1.residual_quantizer._amax, conv1._input_quantizer._pre_qu",
        "qzoo has no scale before quantizing: fold _pre_quant_scale into the layer before",
        "missing in the checkpoint, 2: bn1.bias, layer2.conv1.input_quantizer.amax",
        "conv1.weight: has shape [2, 2], the model's [16, 1, 3, 3]",
        "layer1.conv1._weight_quantizer._amax: has shape [3, 1, 1, 1], the model's [16, 1, 1, 1]",
        "layer1.conv2._input_quantizer._amax: is NaN: its calibrator saw nothing",
    ):
        assert line in str(told.value)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, equal_nan=True)


def test_float_checkpoints_and_ranges_alone_are_told(state: OrderedDict[str, Tensor]) -> None:
    weights = {key: value for key, value in state.items() if not key.endswith("._amax")}
    with pytest.raises(WeightsError, match="no range of the model is in it: is it the checkpoint of a float model"):
        load_state_dict(target(), weights)
    with pytest.raises(WeightsError, match="no weight of the model is in it: qzoo's own files of ranges"):
        load_state_dict(target(), {key: value for key, value in state.items() if key not in weights})


def test_keys_can_be_left_out(state: OrderedDict[str, Tensor]) -> None:
    state["fc2.weight"] = state["fc2.bias"] = torch.ones(2)
    fit = load_state_dict(target(), state, ignore=["fc2.*"])
    assert fit.left_out == ["fc2.weight", "fc2.bias"]
    with pytest.raises(UnknownNameError, match=r"To be left out, but no key matches: fc3.\*. Keys are as in the file."):
        load_state_dict(target(), state, ignore=["fc2.*", "fc3.*"])


@pytest.mark.parametrize(
    "change",
    [
        lambda amax: amax.reshape(-1),  # one dimension
        lambda amax: amax.double(),
        lambda amax: amax.half().float(),
    ],
)
def test_ranges_take_the_shape_and_type_of_the_models(state: OrderedDict[str, Tensor], change: Any) -> None:
    key = "layer1.conv1._weight_quantizer._amax"
    state[key] = given = change(state[key])
    model = target()
    load_state_dict(model, state)
    amax = model.get_submodule("layer1.conv1.weight_quantizer").amax
    assert amax.dtype == torch.float32
    assert amax.shape == (16, 1, 1, 1)
    assert torch.equal(amax.flatten(), given.flatten().float())


def test_one_range_for_all_channels_is_as_many_equal_ones(state: OrderedDict[str, Tensor]) -> None:
    state["conv1._weight_quantizer._amax"] = torch.tensor(0.75)
    model = target()
    assert load_state_dict(model, state).spread == ["conv1._weight_quantizer._amax"]
    assert torch.equal(model.get_submodule("conv1.weight_quantizer").amax, torch.full((16, 1, 1, 1), 0.75))


def test_another_axis_is_no_home() -> None:
    model = qzoo.quantize(nn.Sequential(nn.Linear(4, 3)), "int8")
    qzoo.calibrate(model, [torch.randn(1, 4)])
    state = export_state_dict(model)
    state["0._weight_quantizer._amax"] = torch.ones(1, 4)
    with pytest.raises(WeightsError, match=r"0._weight_quantizer._amax: has shape \[1, 4\], the model's \[3, 1\]"):
        load_state_dict(model, state)


def transposed(groups: int = 1) -> tuple[nn.Module, OrderedDict[str, Tensor]]:
    model = qzoo.quantize(nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=groups)), "int8")
    qzoo.calibrate(model, [torch.randn(1, 4, 3, 3)])
    return model, export_state_dict(model)


def test_transposed_convolutions_are_along_axis_1_as_in_the_original() -> None:
    model, state = transposed()
    state["0._weight_quantizer._amax"] = amax = torch.arange(1.0, 7.0).reshape(1, 6, 1, 1)
    load_state_dict(model, state)
    assert torch.equal(model[0].weight_quantizer.amax, amax)  # type: ignore[index, union-attr]


def test_axis_0_of_older_versions_is_told() -> None:
    model, state = transposed()
    state["0._weight_quantizer._amax"] = torch.arange(1.0, 5.0).reshape(4, 1, 1, 1)
    with pytest.raises(WeightsError, match=r"is along axis 0, the input channels, as older versions .*axis=1\)"):
        load_state_dict(model, state)


def test_groups_share_the_ranges_of_the_original() -> None:
    model, state = transposed(groups=2)
    state["0._weight_quantizer._amax"] = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    assert load_state_dict(model, state).spread == ["0._weight_quantizer._amax"]
    amax = model[0].weight_quantizer.amax  # type: ignore[index, union-attr]
    assert amax.flatten(1).tolist() == [[1.0, 2.0, 3.0]] * 2
    state["0._weight_quantizer._amax"] = torch.arange(12.0).reshape(4, 3, 1, 1)  # an output channel has two
    with pytest.raises(WeightsError, match="is along axis 0, the input channels"):
        load_state_dict(model, state)


def test_ranges_of_a_depthwise_one_are_both() -> None:
    model = qzoo.quantize(nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=4)), "int8")
    qzoo.calibrate(model, [torch.randn(1, 4, 3, 3)])
    state = export_state_dict(model)
    assert state["0._weight_quantizer._amax"].shape == (4, 1, 1, 1)
    state["0._weight_quantizer._amax"] = amax = torch.arange(1.0, 5.0).reshape(4, 1, 1, 1)
    load_state_dict(model, state)
    assert torch.equal(model[0].weight_quantizer.amax.flatten(), amax.flatten())  # type: ignore[index, union-attr]


def test_ranges_of_groups_go_there_and_back() -> None:
    model, _ = transposed(groups=2)
    amax = torch.arange(1.0, 7.0).reshape(2, 1, 3, 1, 1)
    model[0].weight_quantizer.set_amax(amax)  # type: ignore[index, union-attr, operator]
    state = export_state_dict(model)
    weight, spread = model[0].weight, state["0._weight_quantizer._amax"]  # type: ignore[index, union-attr]
    # As the original computes it: its ranges broadcast against the weight.
    by_hand = (weight.detach() * 127 / spread).round().clamp(-128, 127) * spread / 127  # type: ignore[union-attr, operator]
    found = model[0].weight_quantizer(weight.detach())  # type: ignore[index, union-attr, operator]
    torch.testing.assert_close(found, by_hand)
    load_state_dict(model, state)
    assert torch.equal(model[0].weight_quantizer.amax, amax)  # type: ignore[index, union-attr]


def test_counters_of_batch_norm_may_be_missing(state: OrderedDict[str, Tensor]) -> None:
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert load_state_dict(target(), without).ranges == 17


def test_a_sign_that_calibration_decides_becomes_signed() -> None:
    model = qzoo.quantize(nn.Sequential(nn.Linear(4, 2)), "int8_ort")
    amax = {"0.input_quantizer._amax": torch.tensor(2.0), "0.weight_quantizer._amax": torch.ones(2, 1)}
    load_state_dict(model, {"0.weight": torch.ones(2, 4), "0.bias": torch.zeros(2), **amax})
    assert model[0].input_quantizer.grid.low == -128  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("conv1.weight", lambda w: (w * 100).to(torch.int8), "holds int8, not float values: was it compressed?"),
        ("conv1.weight", lambda w: w.to(torch.float8_e4m3fn), "holds float8_e4m3fn, not float values"),
        ("conv1.weight", lambda w: w.to("meta"), r"holds nothing \(meta\), not float values"),
        ("conv1.weight", lambda w: w * torch.nan, "conv1.weight: holds NaN"),
        ("conv1._input_quantizer._amax", lambda a: a.to(torch.float8_e4m3fn), "holds no ranges, but float8_e4m3fn"),
        ("conv1._input_quantizer._amax", lambda a: a.to("meta"), r"holds no ranges, but nothing \(meta\)"),
        ("conv1._input_quantizer._amax", lambda a: -a, "is negative or infinite"),
    ],
)
def test_values_that_are_none(state: OrderedDict[str, Tensor], key: str, change: Any, problem: str) -> None:
    state[key] = change(state[key])
    with pytest.raises(WeightsError, match=problem):
        load_state_dict(target(), state)


def test_half_precision_checkpoints(state: OrderedDict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    model = target()
    with caplog.at_level(logging.WARNING):
        load_state_dict(
            model, {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        )
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not caplog.text


def test_keys_that_differ_by_numbers_are_one_group() -> None:
    keys = [f"layer{n}.{m}.bn1.bias" for n in (1, 2) for m in (0, 1)]
    assert grouped([*keys, "fc.bias"]) == "layer*.*.bn1.bias (4), fc.bias"
    assert grouped(keys[:1]) == "layer1.0.bn1.bias"
