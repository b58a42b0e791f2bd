"""Random small nets, exported for each runtime, give what the fake-quantized model gives, optimized or not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.quant.layers import channel_shape, quantizer_of
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.runtimes import onnxruntime, openvino
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = [pytest.mark.runtimes, pytest.mark.slow]

CASES = 12
KINDS = {1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
         3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)}  # fmt: skip
FACTORS = [1, 1, 1, 0, 1e-6, 1e-9, 1e-20]


def net(chance: random.Random, dims: int) -> nn.Module:
    """Convolutions of all groupings with empty and tiny channels, batch norms that take channels away."""
    made: list[nn.Module] = []
    channels = 4
    for _ in range(chance.randint(1, 3)):
        transposed, groups = chance.random() < 0.5, chance.choice([1, 2, channels])
        out = groups * chance.choice([1, 2]) if groups > 1 else chance.choice([2, 4, 6])
        layer: Any = KINDS[dims][transposed](channels, out, chance.choice([1, 2]), groups=groups)
        with torch.no_grad():
            layer.bias.uniform_(-2, 2)
            for channel in range(out):
                factor, (group, place) = chance.choice(FACTORS), divmod(channel, out // groups)
                if transposed:
                    layer.weight.unflatten(0, (groups, -1))[group, :, place] *= factor
                else:
                    layer.weight[channel] *= factor
        made.append(layer)
        if chance.random() < 0.5:
            made.append(norm(chance, KINDS[dims][2](out)))
        made += [nn.ReLU()] if chance.random() < 0.4 else []
        channels = out
    return nn.Sequential(*made).eval()


def norm(chance: random.Random, layer: Any) -> nn.Module:
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.3, 2)
        layer.weight.uniform_(-2, 2)
        layer.bias.normal_()
        for channel in range(layer.num_features):
            layer.weight[channel] *= chance.choice([1, 1, 1, 0, 1e-10, 1e-30])
    return layer  # type: ignore[no-any-return]


def calibrated(chance: random.Random, model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Quantizes with weights of 7 bits, whose sums of products overflow on no CPU."""
    made, per = (
        qzoo.quantize(model, chance.choice(["int8", "int8_ort"]), example=x),
        chance.choice(["channel", "tensor"]),
    )
    for layer in made.modules():
        if (one := quantizer_of(layer, "weight")) is not None:
            spec = one.spec.model_copy(update={"bits": 7, "per": per})
            layer.weight_quantizer = TensorQuantizer(spec, channel_shape(layer) if per == "channel" else ())
    return qzoo.calibrate(made, [x])


@pytest.mark.filterwarnings("ignore::qzoo.quant.calibration.collecting.DeadActivationWarning")
@pytest.mark.parametrize("seed", range(CASES))
def test_a_random_net(seed: int, tmp_path: Path) -> None:
    chance, dims = random.Random(seed), random.Random(seed).choice([1, 2, 2, 3])
    torch.manual_seed(seed)
    x = torch.randn(6, 4, *([5] * dims))
    model = calibrated(chance, net(chance, dims), x)
    with torch.no_grad():
        expected = model(x).numpy()
    ir.save(to_onnx(model, x[:1], runtime_named(chance.choice(list(RUNTIMES)))), tmp_path / "a.onnx")
    file = tmp_path / "a.onnx"
    for session in (onnxruntime.session(file, 1, False), onnxruntime.session(file, 1, True), openvino.session(file, 1)):
        off = np.abs(session.run({"images": x.numpy()})["logits"] - expected)
        assert off.max() <= 0.03 * np.abs(expected).max()
