from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from qzoo.models import architectures
from qzoo.models.architectures.resnet_cifar import BasicBlock, CifarResNet

PAPER_MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


@pytest.mark.parametrize("depth", PAPER_MILLIONS)
def test_has_as_many_parameters_as_the_paper_says(depth: int) -> None:
    model = architectures.create(f"resnet{depth}_cifar10")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    decimals = 1 if depth == 110 else 2
    assert round(millions, decimals) == PAPER_MILLIONS[depth]


@pytest.mark.parametrize("depth", PAPER_MILLIONS)
def test_has_as_many_weighted_layers_as_its_name_says(depth: int) -> None:
    model = architectures.create(f"resnet{depth}_cifar10")
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules()) == depth


def test_shapes_from_image_to_logits() -> None:
    model, x = CifarResNet(20).eval(), torch.randn(2, 3, 32, 32)
    assert model.forward_features(x).shape == (2, 64, 8, 8)
    assert model(x).shape == (2, 10)


@pytest.mark.parametrize(("keywords", "image", "output"), [
    ({"num_classes": 7}, (2, 3, 32, 32), (2, 7)),
    ({"num_classes": 0}, (2, 3, 32, 32), (2, 64)),
    ({"in_chans": 1}, (2, 1, 32, 32), (2, 10)),
])  # fmt: skip
def test_keywords_change_the_ends(keywords: dict[str, int], image: tuple[int, ...], output: tuple[int, ...]) -> None:
    assert CifarResNet(20, **keywords).eval()(torch.randn(image)).shape == output


def test_shortcut_has_no_parameters() -> None:
    names = {name for name, _ in BasicBlock(16, 32, stride=2).named_children()}
    assert names == {"conv1", "bn1", "conv2", "bn2"}


def test_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros() -> None:
    x = torch.randn(2, 16, 8, 8)
    y = BasicBlock(16, 32, stride=2).shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_shortcut_of_equal_shapes_is_the_input_itself() -> None:
    x = torch.randn(1, 16, 4, 4)
    assert BasicBlock(16, 16, stride=1).shortcut(x) is x


def test_block_is_relu_of_branch_plus_shortcut() -> None:
    block, x = BasicBlock(4, 8, stride=2).eval(), torch.randn(2, 4, 6, 6)
    branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(block(x), F.relu(branch + block.shortcut(x)), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [2, 7, 21, 51])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"6n \+ 2 layers \(8, 14, 20 \.\.\.\), not {depth}"):
        CifarResNet(depth)
