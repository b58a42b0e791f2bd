from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from qzoo.models.operators import find_operators


class Rotary(nn.Module):
    """Turns pairs of values by an angle, then a layer that is skipped."""

    def __init__(self, computes: bool) -> None:
        super().__init__()
        self.layer, self.computes = nn.Linear(4, 4), computes
        self.cos, self.sin = nn.Buffer(torch.rand(4)), nn.Buffer(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        turned = torch.cat([-second, first.tanh() if self.computes else first], -1)
        x = x * self.cos + turned * self.sin
        return self.layer(x) + x


@pytest.mark.parametrize(("computes", "skips"), [(False, [None, "right"]), (True, ["left", "right"])])
def test_rotary_position_embedding_skips_nothing(computes: bool, skips: list[str | None]) -> None:
    operators = find_operators(nn.Sequential(Rotary(computes)), torch.rand(2, 4))
    assert [operator.skip for operator in operators if operator.site.op == "add"] == skips


def test_of_two_additions_in_each_block_of_eva_both_are_residual() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_dinov3_qkvb", depth=2)
    found = [operator.module for operator in find_operators(model) if operator.skip]
    assert found == ["blocks.0", "blocks.0", "blocks.1", "blocks.1"]
