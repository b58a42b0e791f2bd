"""Networks of a few channels with uneven weights, and what steps are held against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.channel_factors import ChannelFactors, scaled
from qzoo.quant.derived import copy_model

CHANNELS = 8


def images(count: int = 4, size: int = 8) -> Tensor:
    """Returns images of three channels, always the same."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def norm(channels: int, kind: Any = nn.BatchNorm2d) -> nn.Module:
    """Returns a batch norm with statistics and weights of its own, some negative."""
    made = kind(channels)
    with torch.no_grad():
        made.weight.uniform_(-2, 2)
        made.bias.normal_()
        made.running_mean.normal_()
        made.running_var.uniform_(0.1, 3)
    return made


def chain(*middle: nn.Module, seed: int = 0) -> nn.Sequential:
    """Returns conv, batch norm, what is given, and a pointwise convolution; the rows of the first are uneven."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), norm(CHANNELS), *middle, nn.Conv2d(CHANNELS, 4, 1)).eval()
    with torch.no_grad():
        made[0].weight.mul_(torch.logspace(-2, 1, CHANNELS).view(-1, 1, 1, 1))
    return made


def everything() -> nn.Sequential:
    """Returns a network of every layer and activation that channels can be scaled through."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8, bias=False), norm(8), nn.ReLU6(),
        nn.Conv2d(8, 16, 1, groups=2), norm(16), nn.PReLU(16), nn.MaxPool2d(2),
        nn.ConvTranspose2d(16, 8, 2, groups=2), norm(8), nn.LeakyReLU(), nn.Dropout(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 6), norm(6, nn.BatchNorm1d), nn.Identity(), nn.Linear(6, 4),
    ).eval()  # fmt: skip


def quantized(model: nn.Module, x: Tensor, scheme: str = "int8") -> nn.Module:
    """Returns a quantized copy without ranges."""
    return qzoo.quantize(model, scheme, example=x)


def assert_same_function(before: nn.Module, after: nn.Module, x: Tensor, tolerance: float = 1e-5) -> None:
    """Fails unless two float networks give the same, relative to the largest value."""
    with torch.no_grad():
        wanted, found = before(x), copy_model(after).requires_grad_(False)(x)
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error <= tolerance, f"off by {error:.2g} of the largest value"


def assert_made_of(before: nn.Module, after: nn.Module, record: ChannelFactors) -> None:
    """Fails unless each weight is, bit for bit, what it was times what is recorded; and all others are as they were."""
    old, new = before.state_dict(), dict(after.named_parameters())
    for key, own in record.weights.items():
        assert torch.equal(new[key], scaled(old[key], own.rows, own.columns, own.axis)), key
    for key, weight in new.items():
        if weight.dim() > 1 and key not in record.weights:
            assert torch.equal(weight, old[key]), key
