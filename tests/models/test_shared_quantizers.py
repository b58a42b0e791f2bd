"""Quantizers of one tensor keep one range through training, where both operands of additions are quantized."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qzoo
from qzoo.models.shared_quantizers import LearnedApartWarning, shared_quantizers
from qzoo.quant.ranges import get_ranges
from tests.training.conftest import digits


def calibrated(scheme: str) -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), scheme), [digits()[0][:64]])


def test_only_where_both_operands_are_quantized() -> None:
    assert shared_quantizers(calibrated("int8")) == []
    assert shared_quantizers(qzoo.create("resnet8_digits")) == []
    assert len(shared_quantizers(calibrated("int8_ort"))) == 1


def test_learned_ranges_of_one_tensor_stay_one() -> None:
    model = calibrated("int8_ort")
    groups, before = shared_quantizers(model), get_ranges(model)
    x, y = digits()
    qzoo.finetune(model, [(x[:128], y[:128])] * 3, epochs=1, lr=0.05, scales="learned")
    after = get_ranges(model)
    for group in groups:
        first, *rest = (after[f"{path}.amax"] for path in group)
        assert not torch.equal(first, before[f"{group[0]}.amax"])
        assert all(torch.equal(first, other) for other in rest)
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert len(changed) > sum(map(len, groups)), "the others learned too"


def test_apart_they_would_part(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calibrated("int8_ort")
    group = shared_quantizers(model)[0]
    monkeypatch.setattr("qzoo.tasks.training_run.shared_quantizers", lambda model, example: [])
    x, y = digits()
    qzoo.finetune(model, [(x[:128], y[:128])] * 3, epochs=1, lr=0.05, scales="learned")
    ranges = get_ranges(model)
    assert not torch.equal(*(ranges[f"{path}.amax"] for path in group[:2]))


class Odd(nn.Module):
    """A residual addition in a model of 20 x 20 images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(400, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head((self.layer(x) + x).flatten(1))
        return y


def test_without_an_example_that_runs_it_is_told_that_they_part() -> None:
    x = torch.rand(4, 1, 20, 20)
    model = qzoo.calibrate(qzoo.quantize(Odd(), "int8_ort", example=x), [x])
    assert shared_quantizers(model, x) == [["layer.input_quantizer", "residual_quantizer"]]
    with pytest.warns(LearnedApartWarning, match="runs on no image of a usual size, so it is not known which"):
        assert shared_quantizers(model) == []
