"""The script and the recipe: one arithmetic, so the same images give the same ranges and predictions, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qzoo
from qzoo.compat.foreign_keys import translate
from qzoo.compat.pytorch_quantization import calib
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.quant.calibration.collecting import collecting, solve_ranges
from qzoo.quant.ranges import get_ranges
from tests.compat.conftest import made_by_a_script
from tests.runtimes.conftest import digits

BATCHES = [3 * digits(512)[:256], digits(512)[256:]]  # the second needs no new bins, the first sets them


def by_recipe(name: str, batches: list[torch.Tensor]) -> nn.Module:
    model = qzoo.create(name, pretrained="float")
    with torch.no_grad(), collecting(model, "reference") as collection:
        for batch in batches:
            model(batch)
    solve_ranges(model, collection)
    return model


@pytest.mark.parametrize("batches", [BATCHES, BATCHES[::-1]], ids=["shrinking", "growing"])
def test_the_tutorials_calibration_is_that_of_the_recipe(batches: list[torch.Tensor]) -> None:
    scripted = made_by_a_script(lambda: qzoo.create("resnet8_digits", pretrained=True), batches)
    model = by_recipe("resnet8_digits_int8", batches)
    theirs = translate(scripted.state_dict()).ranges
    assert get_ranges(model).keys() == theirs.keys()
    for key, amax in get_ranges(model).items():
        assert torch.equal(amax, theirs[key]), key
    with torch.no_grad():
        assert torch.equal(model(digits(64)), scripted(digits(64)))


def test_gradients_are_the_same_too() -> None:
    scripted = made_by_a_script(lambda: qzoo.create("resnet8_digits", pretrained=True), BATCHES)
    model = qzoo.create("resnet8_digits_int8")
    qzoo.compat.load_state_dict(model, scripted.state_dict())
    for one in (scripted, model):
        one(digits(32)).square().sum().backward()
    own = dict(model.named_parameters())
    for name, parameter in scripted.named_parameters():
        assert torch.equal(parameter.grad, own[name].grad), name  # type: ignore[arg-type]


def test_methods_can_be_changed_without_images() -> None:
    scripted = made_by_a_script(lambda: qzoo.create("resnet8_digits", pretrained=True), BATCHES)
    for one in scripted.modules():
        if isinstance(one, quant_nn.TensorQuantizer) and isinstance(one._calibrator, calib.HistogramCalibrator):
            one.load_calib_amax(method="entropy")
    model = by_recipe("resnet8_digits_int8_entropy", BATCHES)
    theirs = translate(scripted.state_dict()).ranges
    assert all(torch.equal(amax, theirs[key]) for key, amax in get_ranges(model).items())
