from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

import qzoo
from qzoo.models.select_layers import plan_quantizers, quantizable_layers
from qzoo.quant.ranges import quantizers, uncalibrated
from qzoo.schema.resolve import resolve_scheme

BUILDERS = {
    "googlenet": (lambda: torchvision.models.googlenet(init_weights=False), 6),
    "inception_v3": (lambda: torchvision.models.inception_v3(init_weights=False), 3),
    "timm": (lambda: timm.create_model("inception_v3", aux_logits=True), 3),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_auxiliary_classifiers_stay_in_float(name: str) -> None:
    build, count = BUILDERS[name]
    with torch.device("meta"):
        model = build()
    auxiliary = [path for path in plan_quantizers(model, resolve_scheme("int8")).left_float if "aux" in path.lower()]
    assert len(auxiliary) == count
    assert not [path for path in quantizable_layers(model) if "aux" in path.lower()]


def test_a_model_with_auxiliary_classifiers_can_be_calibrated() -> None:
    float_model = torchvision.models.googlenet(init_weights=False, num_classes=2)
    model = qzoo.calibrate(qzoo.quantize(float_model, "int8"), torch.randn(1, 3, 64, 64))
    assert not uncalibrated(model)
    assert type(model.aux1.fc1) is nn.Linear


Quantize = Callable[..., nn.Module]


@pytest.mark.parametrize("holder", [
    lambda: nn.MultiheadAttention(8, 2),
    lambda: timm.create_model("beit_base_patch16_224", depth=1, embed_dim=24, num_heads=2),
    lambda: torchvision.models.swin_transformer.ShiftedWindowAttention(8, [2, 2], [0, 0], 2),
], ids=["MultiheadAttention", "beit", "swin"])  # fmt: skip
def test_projections_that_are_read_as_data_are_left_alone(holder: Callable[[], nn.Module], quantized: Quantize) -> None:
    model = nn.Sequential(holder(), nn.Linear(2, 2))
    layers = [path for path in quantizable_layers(model) if path.endswith(("out_proj", "qkv"))]
    assert not layers
    assert "1.weight_quantizer" in quantizers(quantized(model))


def test_what_is_read_as_data_is_listed_as_float() -> None:
    plan = plan_quantizers(torchvision.models.vit_b_16(weights=None), resolve_scheme("int8"))
    assert len([path for path in plan.left_float if path.endswith("self_attention.out_proj")]) == 12
