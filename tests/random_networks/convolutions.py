"""Random parts that are made of convolutions; each takes and gives maps `(N, channels, H, W)`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = ("plain", "pointwise", "grouped", "depthwise", "dilated", "transposed", "transposed grouped")
NORMS = ("batch", "batch", "batch", "group", "instance", "layer", "none")
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.ReLU, lambda: nn.ReLU(inplace=True), nn.ReLU6, nn.GELU, lambda: nn.GELU("tanh"), nn.SiLU, nn.Hardswish,
    lambda: nn.LeakyReLU(0.1), nn.Sigmoid, nn.Tanh, nn.PReLU, nn.ELU, nn.Mish, nn.Identity,
)  # fmt: skip
FUNCTIONAL = (F.relu, F.gelu, F.silu, F.hardswish, torch.tanh, torch.sigmoid, lambda x: F.relu(x, inplace=True))
RESIDUALS = ("x + f(x)", "f(x) + x", "+=", "torch.add", "add_", "alpha", "downsample", "scaled")
GATES = ("x * g", "g * x", "mul_", "torch.mul")
POOLS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2), lambda: nn.MaxPool2d(3, 1, 1), lambda: nn.AvgPool2d(3, 1, 1),
    lambda: nn.AdaptiveAvgPool2d(4), lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
)  # fmt: skip


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map, as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm(chance: Random, channels: int) -> nn.Module:
    """Returns a norm with weights and biases of its own; running statistics come from images."""
    kind = chance.choice(NORMS)
    if kind == "none":
        return nn.Identity()
    if kind == "group":
        return _with_values(nn.GroupNorm(2, channels))
    if kind == "layer":
        return _with_values(LayerNorm2d(channels))
    return _with_values(nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels, affine=True))


def _with_values(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5)  # type: ignore[operator, union-attr]
        layer.weight.mul_(torch.randint(0, 2, layer.weight.shape) * 2 - 1)  # type: ignore[operator, union-attr, arg-type]
        layer.bias.uniform_(-0.5, 0.5)  # type: ignore[operator, union-attr]
    return layer


def convolution(chance: Random, channels: int, out: int) -> nn.Module:
    """Returns a convolution of any kind that keeps the size; numbers of channels are even."""
    kind, bias = chance.choice(CONVOLUTIONS), chance.random() < 0.5
    if kind == "depthwise" and channels != out:
        kind = "grouped"
    if kind.startswith("transposed"):
        groups = 2 if kind.endswith("grouped") else 1
        return nn.ConvTranspose2d(channels, out, 3, padding=1, groups=groups, bias=bias)
    if kind == "pointwise":
        return nn.Conv2d(channels, out, 1, bias=bias)
    groups = {"grouped": 2, "depthwise": channels}.get(kind, 1)
    space = 2 if kind == "dilated" else 1
    mode = chance.choice(["zeros", "zeros", "zeros", "reflect"])
    return nn.Conv2d(channels, out, 3, padding=space, dilation=space, groups=groups, bias=bias, padding_mode=mode)


def activation(chance: Random) -> nn.Module:
    """Returns an activation of any kind."""
    return chance.choice(ACTIVATIONS)()


def unit(chance: Random, channels: int, out: int) -> nn.Sequential:
    """Returns a convolution, a norm and an activation, or the norm and the activation first."""
    if chance.random() < 0.2:
        return nn.Sequential(norm(chance, channels), activation(chance), convolution(chance, channels, out))
    return nn.Sequential(convolution(chance, channels, out), norm(chance, out), activation(chance))


class Residual(nn.Module):
    """A residual block, whose sum is spelled in one of the ways that people spell it."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.spelling = chance.choice(RESIDUALS)
        hidden = chance.choice([channels, 2 * channels])
        last = nn.Sequential(convolution(chance, hidden, channels), norm(chance, channels))
        self.branch = nn.Sequential(unit(chance, channels, hidden), last)
        self.act = activation(chance)
        if self.spelling == "downsample":
            self.downsample = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm(chance, channels))
        if self.spelling == "scaled":
            self.gamma = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        return self.act(self._sum(x, y))  # type: ignore[no-any-return]

    def _sum(self, x: Tensor, y: Tensor) -> Tensor:
        if self.spelling == "f(x) + x":
            return y + x
        if self.spelling == "+=":
            y += x
            return y
        if self.spelling == "add_":
            return y.add_(x)
        if self.spelling in ("torch.add", "alpha"):
            return torch.add(y, x, alpha=2 if self.spelling == "alpha" else 1)
        if self.spelling == "scaled":
            return x + self.gamma * y
        return (self.downsample(x) if self.spelling == "downsample" else x) + y

    def extra_repr(self) -> str:
        return self.spelling


class SqueezeExcite(nn.Module):
    """Channels scaled by what a small network makes of their means."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.spelling, self.by_mean = chance.choice(GATES), chance.random() < 0.5
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 2, 1), nn.Conv2d(channels // 2, channels, 1)
        self.act, self.gate = activation(chance), chance.choice([nn.Sigmoid, nn.Hardsigmoid])()
        self.pool = nn.Identity() if self.by_mean else nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True) if self.by_mean else self.pool(x)
        gate = self.gate(self.fc2(self.act(self.fc1(mean))))
        if self.spelling == "g * x":
            return gate * x  # type: ignore[no-any-return]
        if self.spelling == "mul_":
            return x.clone().mul_(gate)
        return torch.mul(x, gate) if self.spelling == "torch.mul" else x * gate

    def extra_repr(self) -> str:
        return f"{self.spelling}, {'x.mean' if self.by_mean else 'pooled'}"


class Branches(nn.Module):
    """Parallel branches that are concatenated; or one half of the channels passed by, and both shuffled."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.kind = chance.choice(["concat", "split", "shuffle"])
        half = channels // 2
        inputs = channels if self.kind == "concat" else half
        self.left = unit(chance, inputs, half)
        self.right = unit(chance, inputs, half) if chance.random() < 0.7 or self.kind == "concat" else nn.Identity()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.kind == "concat" else x.chunk(2, dim=1)
        y = torch.cat([self.left(left), self.right(right)], dim=1)
        return self.shuffle(y) if self.kind == "shuffle" else y  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self.kind


class Functional(nn.Module):
    """A convolution followed by an activation that is called as a function."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = convolution(chance, channels, channels), norm(chance, channels)
        self.activation = chance.choice(FUNCTIONAL)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))  # type: ignore[no-any-return, operator]


def pooling(chance: Random, channels: int) -> nn.Module:
    """Returns a pooling layer of any kind."""
    return chance.choice(POOLS)()
