"""Units are what a person would call layers, blocks and stages, in models of several libraries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from qzoo.models.architectures.resnet_cifar import BasicBlock, CifarResNet
from qzoo.optimization.units.find import Unit, find_units
from qzoo.quant.weights import quantized_weights


def units(net: nn.Module, kind: str, size: int = 32, scheme: str = "int8") -> list[Unit]:
    x = torch.randn(2, 3, size, size)
    model = qzoo.calibrate(qzoo.quantize(net.eval(), scheme, example=x), [x])
    found = find_units(model, net, x, kind)  # type: ignore[arg-type]
    paths = sorted(path for unit in found for path in unit.weights)
    assert all(unit.learnable for unit in found)
    assert paths == sorted(quantized_weights(model)), "each weight is in one unit"
    return found


def blocks(net: nn.Module, size: int = 32) -> list[str]:
    return [unit.path for unit in units(net, "block", size)]


CIFAR = ["conv1", "layer1.0", "layer2.0", "layer3.0", "linear"]


def test_blocks_of_the_zoos_own_architecture() -> None:
    assert blocks(CifarResNet(8)) == CIFAR


def test_stages_are_the_containers_of_blocks() -> None:
    found = units(CifarResNet(14), "stage")
    assert [unit.path for unit in found] == ["conv1", "layer1", "layer2", "layer3", "linear"]
    assert [len(unit.weights) for unit in found] == [1, 4, 4, 4, 1]


def test_layers_come_with_the_norm_and_activation_behind_them() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
    assert [unit.paths for unit in units(net, "layer")] == [("0", "1", "2"), ("3",)]


def test_blocks_of_mobilenet_with_and_without_residual() -> None:
    net = torchvision.models.mobilenet_v2(width_mult=0.25)
    found = [f"features.{number}" for number in range(1, 18)]
    assert blocks(net) == ["features.0.0", *found, "features.18.0", "classifier.1"]


def test_blocks_of_torchvisions_vision_transformer() -> None:
    net = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64)
    found = units(net, "block")
    layers = [f"encoder.layers.encoder_layer_{number}" for number in range(2)]
    assert [unit.path for unit in found] == ["conv_proj", *layers, "heads.head"]
    # The projections of attention are no layers that are called.
    assert f"{layers[0]}.self_attention.in_proj_weight_quantizer" in found[1].weights


LIBRARIES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "resnet18": (
        torchvision.models.resnet18,
        ["conv1", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"],
    ),
    "convnext": (
        lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)),
        ["stem.0", "stages.0.blocks.0"]
        + [f"stages.{stage}.{name}" for stage in (1, 2, 3) for name in ("downsample.1", "blocks.0")]
        + ["head.fc"],
    ),
    "timm vit": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=12),
        ["patch_embed.proj", "blocks.0", "blocks.1", "head"],
    ),
    "timm swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=64, window_size=2, embed_dim=12, depths=(2, 1), num_heads=(2, 2)
        ),
        [
            "patch_embed.proj",
            *(f"layers.{name}" for name in ("0.blocks.0", "0.blocks.1", "1.downsample.reduction", "1.blocks.0")),
            "head.fc",
        ],
    ),
    "torchvision swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 12, [2, 1], [2, 2], [2, 2]),
        ["features.0.0", "features.1.0", "features.1.1", "features.2.reduction", "features.3.0", "head"],
    ),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_blocks_of_libraries(name: str) -> None:
    make, expected = LIBRARIES[name]
    assert blocks(make(), 64) == expected


def test_blocks_of_efficientnet() -> None:
    found = blocks(timm.create_model("test_efficientnet"), 64)
    stages = ["1.0", "2.0", "3.0", "4.0"]
    assert found == [
        "conv_stem",
        "blocks.0.0.conv",
        *(f"blocks.{block}" for block in stages),
        "conv_head",
        "classifier",
    ]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = BasicBlock(3, 3, 1)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.block(x)))


def test_what_is_called_twice_keeps_nearest_rounding_and_is_told() -> None:
    net, x = Twice().eval(), torch.randn(2, 3, 8, 8)
    model = qzoo.calibrate(qzoo.quantize(net, "int8", example=x), [x])
    found = find_units(model, net, x, "block")
    assert [unit.path for unit in found] == ["last", "block.conv1", "block.conv2"]
    assert [unit.learnable for unit in found] == [True, False, False]
    assert found[1].note == "keeps nearest rounding: it is called 2 times"


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(y))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.block = nn.Conv2d(3, 3, 1), TwoInputs()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.first(x))


def test_a_block_of_two_inputs_falls_back_to_its_layers_and_is_told() -> None:
    found = units(Outer(), "block")
    assert [unit.path for unit in found] == ["first", "block.conv1", "block.conv2"]
    assert found[1].note == "not learned together with the rest of block: it has 2 tensors in and 1 out"


def test_a_weight_of_two_layers_keeps_nearest_rounding() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1)).eval()
    net[2].weight = net[0].weight
    x = torch.randn(2, 3, 8, 8)
    model = qzoo.calibrate(qzoo.quantize(net, "int8", example=x), [x])
    found = find_units(model, net, x, "layer")
    assert [unit.learnable for unit in found] == [False, False]
    assert "several layers have it" in found[0].note


class SequenceFirst(nn.Module):
    """A block whose first axis runs over places, as many as there are images in a batch of two."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear2(torch.relu(self.linear1(x)))


class Transposing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = SequenceFirst()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.transpose(0, 1)).transpose(0, 1)


class Told(nn.Module):
    """A block that is told how many images there are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, images: int) -> Tensor:
        return (self.linear2(self.linear1(x)) + x).reshape(images, -1, 4)


class Telling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Told()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, len(x))


@pytest.mark.parametrize(
    ("net", "note"),
    [
        (Transposing(), "its first axis runs over no images"),
        (Telling(), "it is called in another way with more images"),
    ],
)
def test_two_images_do_not_tell_all_of_a_block(net: nn.Module, note: str) -> None:
    x = torch.randn(2, 6, 4)
    model = qzoo.calibrate(qzoo.quantize(net.eval(), "int8", example=x), [x])
    found = find_units(model, net, x, "block")
    assert [unit.path for unit in found] == ["block.linear1", "block.linear2"]
    assert note in found[0].note


class Between(nn.Module):
    """Three blocks: the second is given what the first gives, the third what somebody wrote to."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (BasicBlock(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x)).mul_(2))


def test_a_unit_follows_another_where_nothing_is_between() -> None:
    assert [(unit.path, unit.follows) for unit in units(Between(), "block")] == [
        ("one", False), ("two", True), ("three", False)
    ]  # fmt: skip
    net = timm.create_model("tf_efficientnet_lite0", num_classes=10)
    follow = [unit.follows for unit in units(net, "block", 64)]
    assert follow == [False, *(True for _ in follow[1:-1]), False]  # pooling is in front of the classifier
