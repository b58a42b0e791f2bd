"""Random parts that read a weight otherwise than by calling the layer that holds it, or share one."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ON_TOKENS = ("F.linear", "x @ w", "torch.matmul", "einsum", "addmm", "baddbmm", "bmm", "cosine", "scaled")
ON_MAPS = ("F.conv2d", "F.conv2d grouped", "F.conv_transpose2d", "standardized")
SHARED = ("twice", "two paths", "tied", "tied transposed")


class OnTokens(nn.Module):
    """A parameter that tokens are multiplied by, in one of the ways that people write it."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.spelling = chance.choice(ON_TOKENS)
        self.weight = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.bias = nn.Parameter(torch.randn(channels) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self._product(tokens).transpose(1, 2).reshape(x.shape)

    def _product(self, x: Tensor) -> Tensor:
        w, b = self.weight, self.bias
        if self.spelling == "x @ w":
            return x @ w + b
        if self.spelling == "torch.matmul":
            return torch.matmul(x, w.t()) + b
        if self.spelling == "einsum":
            return torch.einsum("btc,oc->bto", x, w) + b
        if self.spelling == "addmm":
            return torch.addmm(b, x.reshape(-1, x.shape[-1]), w).view(x.shape)
        if self.spelling == "baddbmm":
            return torch.baddbmm(b.expand(x.shape[0], 1, -1), x, w.expand(x.shape[0], -1, -1))
        if self.spelling == "bmm":
            return torch.bmm(x, w.expand(x.shape[0], -1, -1))
        if self.spelling == "cosine":
            return 4 * F.linear(F.normalize(x, dim=-1), F.normalize(w, dim=-1))
        return F.linear(x, w * 0.5 if self.spelling == "scaled" else w, b)

    def extra_repr(self) -> str:
        return self.spelling


class OnMaps(nn.Module):
    """A parameter that maps are convolved with by a function."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.spelling = chance.choice(ON_MAPS)
        self.groups = 2 if self.spelling.endswith("grouped") else 1
        self.weight = nn.Parameter(torch.randn(channels, channels // self.groups, 3, 3) * (9 * channels) ** -0.5)
        self.bias = nn.Parameter(torch.randn(channels) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.spelling == "F.conv_transpose2d":
            return F.conv_transpose2d(x, weight, self.bias, padding=1)
        if self.spelling == "standardized":
            weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1, groups=self.groups)

    def extra_repr(self) -> str:
        return self.spelling


class Shared(nn.Module):
    """A layer that is called twice, stands at two paths, or whose weight another layer reads too."""

    def __init__(self, chance: Random, channels: int) -> None:
        super().__init__()
        self.kind = chance.choice(SHARED)
        self.a = nn.Conv2d(channels, channels, 3 if self.kind != "tied transposed" else 1, padding="same")
        self.n1, self.n2, self.act = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.ReLU()
        self.b = self.a if self.kind != "tied" else nn.Conv2d(channels, channels, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.n1(self.a(x)))
        if self.kind == "tied transposed":
            return F.conv2d(y, self.a.weight.transpose(0, 1))
        return self.n2(self.a(y) if self.kind == "twice" else self.b(y))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self.kind
