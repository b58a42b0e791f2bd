from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

import qzoo
from qzoo.models.float_weights import FloatWeightsWarning
from qzoo.models.select_layers import plan_quantizers
from qzoo.quant.ranges import quantizers, uncalibrated
from qzoo.schema.resolution.resolve import resolve_scheme

BUILDERS = {
    "googlenet": (lambda: torchvision.models.googlenet(init_weights=False), 6),
    "inception_v3": (lambda: torchvision.models.inception_v3(init_weights=False), 3),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_auxiliary_classifiers_stay_in_float(name: str) -> None:
    build, count = BUILDERS[name]
    with torch.device("meta"):
        model = build()
    auxiliary = [path for path in plan_quantizers(model, resolve_scheme("int8")).left_float if "aux" in path.lower()]
    assert len(auxiliary) == count


def test_a_model_with_auxiliary_classifiers_can_be_calibrated() -> None:
    float_model = torchvision.models.googlenet(init_weights=False, num_classes=2)
    model = qzoo.calibrate(qzoo.quantize(float_model, "int8"), torch.randn(1, 3, 64, 64))
    assert not uncalibrated(model)
    assert type(model.aux1.fc1) is nn.Linear


@pytest.mark.parametrize(("holder", "width", "names"), [
    (lambda: nn.MultiheadAttention(8, 2), 8, ["0.in_proj", "0.out_proj"]),
    (
        lambda: timm.create_model("beit_base_patch16_224", depth=1, embed_dim=24, num_heads=2), 1000,
        ["0.blocks.0.attn.qkv"],
    ),
    (lambda: torchvision.models.swin_transformer.ShiftedWindowAttention(8, [2, 2], [0, 0], 2), 8, ["0.qkv", "0.proj"]),
], ids=["MultiheadAttention", "beit", "swin"])  # fmt: skip
def test_weights_that_another_module_reads_are_layers(
    holder: Callable[[], nn.Module], width: int, names: list[str]
) -> None:
    example = torch.rand(1, 3, 224, 224) if width == 1000 else torch.rand(1, 4, 4, 8)
    model = nn.Sequential(holder(), nn.Linear(width, 2))
    if isinstance(model[0], nn.MultiheadAttention):
        model, example = _SelfAttention(model[0], model[1]), torch.rand(2, 5, 8)
        names = [name.replace("0.", "attention.") for name in names]
    plan = plan_quantizers(model, resolve_scheme("int8"), example)
    layers = {one.layer: one.functional for one in plan.quantizers}
    assert [name for name in names if layers[name] is not None] == names
    assert not plan.left_float


class _SelfAttention(nn.Module):
    def __init__(self, attention: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.attention, self.head = attention, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])


def test_without_an_example_it_runs_on_the_layer_that_attention_reads_is_none_that_is_called() -> None:
    model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 2))  # attention takes three inputs
    with pytest.warns(FloatWeightsWarning, match=r"stay in float: 0.in_proj_weight, 0.out_proj.weight. The model does"):
        model = qzoo.quantize(model, "int8")
    assert list(quantizers(model)) == ["1.input_quantizer", "1.weight_quantizer"]
