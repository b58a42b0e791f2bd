from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from qzoo.build.example import example_inputs
from qzoo.build.operators import find_operators


class CutsPatches(nn.Module):
    """A transformer's way in: patches are cut before the first layer, which is linear."""

    pretrained_cfg = {"input_size": (3, 16, 24)}

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 4)

    def forward(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        patches = images.reshape(n, channels, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return self.embed(patches).relu()


def test_images_for_a_model_whose_first_layer_is_linear() -> None:
    assert [tuple(x.shape) for x in example_inputs(CutsPatches(), 2)] == [(2, 3, 16, 24), (2, 192)]
    assert [operator.name for operator in find_operators(CutsPatches())] == ["reshape", "permute", "flatten", "relu"]


def test_features_for_a_linear_layer_that_says_nothing_of_images() -> None:
    assert [tuple(x.shape) for x in example_inputs(nn.Linear(5, 2))] == [(1, 5)]


def test_a_timm_model_with_a_linear_patch_embedding() -> None:
    with torch.device("meta"):
        model = timm.create_model("naflexvit_base_patch16_gap", depth=2)
    assert sum(operator.skip is not None for operator in find_operators(model)) == 4
