"""A checkpoint that NVIDIA Model-Optimizer 0.47 wrote; make_model_optimizer_case.py made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qzoo
from qzoo.compat import export_state_dict, load_state_dict
from qzoo.compat.checkpoint import read_state_dict
from qzoo.errors import WeightsError

FILE = Path(__file__).with_name("model_optimizer.pth")
RULES = """
version: 1
base: {source: torchvision, architecture: resnet18, weights: IMAGENET1K_V1}
dataset: imagenet-1k
calibration: {split: train, images: 512, batch_size: 64, seed: 0}
scheme: int8
variants:
  as_model_optimizer: {rules: [{match: {type: MaxPool2d}, input: {calibrator: max}}]}
"""


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


@pytest.fixture
def quantized(tmp_path: Path) -> nn.Module:
    """Model-Optimizer quantizes the input of max pooling too, which a rule says here."""
    (tmp_path / "rules.yaml").write_text(RULES)
    return qzoo.quantize(network(), f"{tmp_path / 'rules.yaml'}:as_model_optimizer")


def test_it_predicts_what_model_optimizer_does(quantized: nn.Module) -> None:
    fit = load_state_dict(quantized, read_state_dict(FILE))
    assert (fit.ranges, fit.weights) == (8, 10)
    case: dict[str, Any] = torch.load(FILE, weights_only=True)
    with torch.no_grad():
        # Another CPU sums a convolution in another order; a value that went to another step would be off by 1e-3.
        torch.testing.assert_close(quantized(case["input"]), case["output"], rtol=0, atol=2e-6)


def test_the_way_back_is_bit_identical(quantized: nn.Module) -> None:
    state = read_state_dict(FILE)
    load_state_dict(quantized, state)
    back = export_state_dict(quantized, "model-optimizer")
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) and back[key].dtype == value.dtype for key, value in state.items())


def test_without_the_rule_the_key_has_no_home() -> None:
    with pytest.raises(WeightsError, match=r"unexpected, 1 key: 3.input_quantizer._amax"):
        load_state_dict(qzoo.quantize(network(), "int8"), read_state_dict(FILE))
