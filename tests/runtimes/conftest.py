"""Small graphs, and models to export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.data import open_split
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx


def digits(images: int = 32) -> torch.Tensor:
    split = open_split("digits", "test")
    return (split.images[torch.arange(images)].float() / 255 - 0.5) / 0.5


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + x)


def network() -> nn.Module:
    """Two residual blocks behind a stem, and a classifier; batch norms with statistics of their own."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*stem, Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).train()
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(-1.5, 1.5)
                norm.bias.uniform_(-0.5, 0.5)
        model(digits())
    return model.eval()


@functools.cache
def shipped(name: str, runtime: str) -> tuple[nn.Module, bytes]:
    """A model that ships with qzoo, and what is exported of it."""
    model = qzoo.create(name, pretrained=True)
    return model, ir.to_proto(to_onnx(model, digits(1), runtime_named(runtime))).SerializeToString()


@pytest.fixture(scope="session")
def fitting() -> nn.Module:
    """Calibrated, of the scheme for ONNX Runtime."""
    return qzoo.calibrate(qzoo.quantize(network(), "int8_ort", example=digits(1)), [digits()])


@pytest.fixture(scope="session")
def exported(fitting: nn.Module) -> bytes:
    """What is exported of it, to be changed."""
    return ir.to_proto(to_onnx(fitting, digits(1), runtime_named("onnxruntime"))).SerializeToString()


@pytest.fixture
def graph(exported: bytes) -> Callable[[], Any]:
    """Returns the exported model anew each time."""
    return lambda: ir.from_proto(onnx.load_from_string(exported))
