from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.example import example_inputs, runnable_example
from qzoo.models.operators import find_operators


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


class TransformsFirst(nn.Conv2d):
    """Its convolution sees other channels than the images have."""

    pretrained_cfg = {"input_size": (3, 8, 8)}

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.cat([images, images[:, :1]], 1))


def test_images_for_a_model_that_transforms_them_before_its_first_layer() -> None:
    model = nn.Sequential(TransformsFirst(4, 2, 1), nn.ReLU())
    model.pretrained_cfg = TransformsFirst.pretrained_cfg
    shapes = [tuple(x.shape[1:]) for x in example_inputs(model)]
    assert shapes[:2] == [(4, 8, 8), (3, 8, 8)]
    assert [operator.name for operator in find_operators(model)] == ["1.relu"]


def test_channels_are_those_of_the_model_and_not_of_its_weights() -> None:
    with torch.device("meta"):
        model = timm.create_model("test_resnet", in_chans=5)
    assert next(iter(example_inputs(model))).shape == (1, 5, 160, 160)


def test_features_for_a_linear_layer_that_says_nothing_of_images() -> None:
    assert [tuple(x.shape) for x in example_inputs(nn.Linear(5, 2))] == [(1, 5)]


def test_a_timm_model_with_a_linear_patch_embedding() -> None:
    with torch.device("meta"):
        model = timm.create_model("naflexvit_base_patch16_gap", depth=2)
    assert sum(operator.skip is not None for operator in find_operators(model)) == 4


def test_a_timm_model_that_transforms_images_before_its_first_layer() -> None:
    model = timm.create_model("csatv2").eval()
    assert {operator.module for operator in find_operators(model) if operator.skip} >= {"stages.0.0"}


def test_the_first_image_that_a_model_runs_on_leaves_it_as_it_was() -> None:
    model = TransformsFirst(4, 2, 3).train()
    assert runnable_example(model).shape == (1, 3, 8, 8)
    assert model.training
    odd = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(UnsupportedError, match=r"runs on no image of a usual size\. Give one: example=torch\.zeros"):
        runnable_example(odd)
