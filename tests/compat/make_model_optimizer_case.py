"""Writes model_optimizer.pth: a small network that NVIDIA Model-Optimizer itself calibrated, and what it predicts.

    python tests/compat/make_model_optimizer_case.py   # in an environment with torch and nvidia-modelopt

The file was made with nvidia-modelopt 0.47.0 and torch 2.15 on a CPU.
"""

from __future__ import annotations

from pathlib import Path

import modelopt.torch.opt as mto
import modelopt.torch.quantization as mtq
import torch
from torch import Tensor, nn

FILE = Path(__file__).with_name("model_optimizer.pth")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


def main() -> None:
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))

    def calibrate(model: nn.Module) -> Tensor:
        return model(x)

    with torch.no_grad():
        model = mtq.quantize(network(), mtq.INT8_DEFAULT_CFG, calibrate)
        mto.save(model, FILE)
        torch.save(torch.load(FILE, weights_only=False) | {"input": x, "output": model(x)}, FILE)


if __name__ == "__main__":
    main()
