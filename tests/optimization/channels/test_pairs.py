"""Which channels can be scaled: whose readers are all layers, with nothing between that is not homogeneous."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import Apart, Group, layer_groups, norm_groups
from qzoo.optimization.channels.probing import probed
from tests.each import for_each
from tests.optimization.channels.networks import everything, images


class Between(nn.Module):
    """Two convolutions, and what a function makes of what lies between."""

    def __init__(self, between: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(3, 4, 1), nn.Conv2d(channels, 2, 1), between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


def found(model: nn.Module, x: Tensor | None = None) -> list[Group | Apart]:
    network = Network(model.eval(), example=images() if x is None else x)
    return probed(network, layer_groups(network))


def paths(model: nn.Module, x: Tensor | None = None) -> list[str]:
    return [one.path for one in found(model, x) if isinstance(one, Group)]


def reason(model: nn.Module) -> str:
    first = found(model)[0]
    assert isinstance(first, Apart)
    return first.reason


def test_layers_of_a_chain_are_pairs() -> None:
    assert paths(everything()) == ["0 -> 3", "3 -> 6", "6 -> 10", "10 -> 16", "16 -> 19"]


def test_a_batch_norm_after_the_layer_belongs_to_it() -> None:
    groups = [one for one in found(everything()) if isinstance(one, Group)]
    assert [one.norm for one in groups] == ["1", "4", "7", "11", "17"]
    assert [one.ceiling for one in groups] == [None, 6.0, None, None, None]


@for_each(
    "between",
    [
        F.relu, F.relu_, F.leaky_relu, lambda x: F.dropout(x, training=False), torch.Tensor.contiguous,
        lambda x: F.max_pool2d(x, 2), lambda x: F.pad(x, (1, 1)), lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.flip(3), lambda x: x[:, :, ::2],
    ],
)  # fmt: skip
def test_what_is_homogeneous_channel_by_channel_makes_a_pair(between: Callable[[Tensor], Tensor]) -> None:
    assert paths(Between(between)) == ["first -> second"]


@for_each(
    "between, why",
    [
        (F.gelu, "gelu of the model reads it"), (F.silu, "silu of"), (lambda x: x + 1, "add of"),
        (lambda x: x * torch.sigmoid(x), "sigmoid of"), (F.relu6, None), (lambda x: x.clamp(max=6), "clamp of"),
        (lambda x: x.softmax(1), "softmax of"), (lambda x: F.layer_norm(x, x.shape[1:]), "layer_norm of"),
        (lambda x: x.flip(1), "with its channels mixed"), (lambda x: F.pad(x, (1, 1), value=1.0), "mixed or changed"),
        (lambda x: x.mean((1, 2), keepdim=True).expand(-1, 4, -1, -1), "mixed or changed"),
    ],
)  # fmt: skip
def test_what_is_not_makes_none(between: Callable[[Tensor], Tensor], why: str | None) -> None:
    if why is not None:
        assert why in reason(Between(between))


class Branches(nn.Module):
    """What a first layer makes goes several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.a, self.b, self.way = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3), way

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.first(x).relu()
        if self.way == "residual":
            return self.a(y + x)
        if self.way == "skip":
            return self.a(y).mean((1, 2, 3)) + y.mean((1, 2, 3))
        if self.way == "cat":
            return self.a(torch.cat([y, y])[:4])
        if self.way == "output":
            return self.a(y), y
        if self.way == "shape":
            return self.a(y) + y.new_zeros(1)
        if self.way == "twice":
            return self.a(y).mean() + self.a(y).mean()
        return self.a(y).mean() + self.b(y).mean()


def test_readers_of_one_tensor_share_its_factors() -> None:
    assert paths(Branches("both")) == ["first -> a, b"]
    assert paths(Branches("shape")) == ["first -> a"]


@for_each(
    "way, why",
    [("residual", "add of"), ("skip", "add of"), ("cat", "cat of"), ("output", "the model gives it"),
     ("twice", "conv2d of a reads it")],
)  # fmt: skip
def test_what_anybody_else_reads_makes_no_pair(way: str, why: str) -> None:
    assert why in reason(Branches(way))


class Tied(nn.Module):
    """A layer whose weight another reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_a_shared_weight_makes_no_pair() -> None:
    assert paths(Tied()) == []


def test_a_weight_that_is_computed_makes_no_pair() -> None:
    model = Between(F.relu)
    nn.utils.parametrizations.weight_norm(model.first)
    assert paths(model) == []


class Unseen(nn.Module):
    """An activation that no mode sees."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        with torch._C.DisableTorchFunction():
            y = y * y
        return self.second(y)


def test_what_no_mode_sees_is_told_by_what_is_computed() -> None:
    assert "mixed or changed" in reason(Unseen())


def test_a_model_with_residual_additions_has_pairs_inside_its_branches() -> None:
    model = torchvision.models.resnet._resnet(
        torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], None, False, num_classes=3
    )
    found = paths(model, torch.randn(2, 3, 32, 32))
    assert found == [f"layer{stage}.0.conv1 -> layer{stage}.0.conv2" for stage in (1, 2, 3, 4)]


def norms(model: nn.Module, x: Tensor) -> list[str]:
    network = Network(model.eval(), example=x)
    return [one.path for one in probed(network, norm_groups(network)) if isinstance(one, Group)]


def test_norms_of_transformers_reach_their_layers_through_views_and_attention() -> None:
    vit = torchvision.models.VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3)
    nn.init.normal_(vit.heads.head.weight)
    layer = "encoder.layers.encoder_layer_0"
    assert norms(vit, torch.randn(2, 3, 16, 16)) == [
        f"{layer}.ln_1 -> {layer}.self_attention.in_proj", f"{layer}.ln_2 -> {layer}.mlp.0", "encoder.ln -> heads.head",
    ]  # fmt: skip
    swin = torchvision.models.SwinTransformer([2, 2], 8, [2], [2], [2, 2], num_classes=3)
    assert norms(swin, torch.randn(2, 3, 16, 16)) == [
        "features.1.0.norm1 -> features.1.0.attn.qkv", "features.1.0.norm2 -> features.1.0.mlp.0",
        "features.1.1.norm1 -> features.1.1.attn.qkv", "features.1.1.norm2 -> features.1.1.mlp.0", "norm -> head",
    ]  # fmt: skip
    convnext = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=3)
    assert norms(convnext, torch.randn(2, 3, 32, 32))[:2] == [
        "stages.0.blocks.0.norm -> stages.0.blocks.0.mlp.fc1", "stages.1.downsample.0 -> stages.1.downsample.1",
    ]  # fmt: skip


class Several(nn.Module):
    """A norm that three linear layers read, and a batch norm before its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.v = nn.LayerNorm(4), nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.q(y) * self.k(y) + self.v(y)


def test_all_layers_that_read_a_norm_share_its_factors() -> None:
    assert norms(Several(), torch.randn(2, 4)) == ["norm -> q, k, v"]


def test_probing_leaves_every_bit() -> None:
    model, x = everything(), images()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network = Network(model, example=x)
    probed(network, [*layer_groups(network), *norm_groups(network)])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
