from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

import qzoo
from qzoo.models.quantize import plan_quantizers, quantizable_layers
from qzoo.quant.ranges import uncalibrated
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
