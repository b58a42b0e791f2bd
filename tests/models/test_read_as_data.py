from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torchvision
from torch import nn

from qzoo.models.quantize import plan_quantizers, quantizable_layers
from qzoo.quant.ranges import quantizers
from qzoo.schema.resolve import resolve_scheme

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
