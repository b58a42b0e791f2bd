"""Scales with which every channel's bias fits int32, in files and in what runtimes compute of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.calibration.collecting import DeadActivationWarning
from qzoo.quant.layers import quantizer_of
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.runtimes import onnxruntime, openvino
from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes, producer
from qzoo.runtimes.passes.stored_weight import by_channel, stored_weight
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = pytest.mark.runtimes

X = (0.3 * torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))).clamp(-0.5, 0.5)
X[0, 0, 0, 0] = -1
"""Small beside the one that makes the range, as weights are below, so that no CPU's sums of two products overflow."""


def emptied(layer: Any, norm: Any = None) -> nn.Module:
    """A layer with a channel of zeros and one of tiny weights, whose biases are as large as others'."""
    torch.manual_seed(1)
    with torch.no_grad():
        weight = layer.weight.movedim(1 if isinstance(layer, nn.ConvTranspose2d) else 0, 0)
        weight.uniform_(-0.1, 0.1)
        weight[(slice(None), *[0] * (weight.dim() - 1))] = 0.4
        weight[1] = 0
        weight[2] *= 1e-7
        if layer.bias is not None:
            layer.bias.fill_(0.5)
        if norm is not None:
            norm.weight[3], norm.weight[4] = 0, 1e-12
            norm.bias.fill_(-0.75)
            norm.running_mean.fill_(0.1)
    return nn.Sequential(layer, *([] if norm is None else [norm])).eval()


class Pooled(nn.Module):
    """A linear layer behind a quantizer that stands before a reshaping."""

    def __init__(self, head: nn.Linear, tokens: bool) -> None:
        super().__init__()
        self.head, self.tokens = emptied(head)[0], tokens  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        return self.head(x if self.tokens else x.flatten(1)[:, :3])  # type: ignore[no-any-return,operator]


NETS = {
    "conv": lambda: emptied(nn.Conv2d(3, 6, 3)),
    "folded": lambda: emptied(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6)),
    "depthwise": lambda: emptied(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "transposed": lambda: emptied(nn.ConvTranspose2d(3, 6, 2), nn.BatchNorm2d(6)),
    "linear": lambda: Pooled(nn.Linear(3, 6), tokens=False),
    "tokens": lambda: Pooled(nn.Linear(3, 6), tokens=True),
}


def calibrated(net: nn.Module, per: str = "channel") -> nn.Module:
    model = qzoo.quantize(net, "int8", example=X)
    for layer in model.modules() if per == "tensor" else ():
        if (one := quantizer_of(layer, "weight")) is not None:
            layer.weight_quantizer = TensorQuantizer(one.spec.model_copy(update={"per": per}))
    return qzoo.calibrate(model, [X])


def steps_of_biases(graph: ir.Graph) -> np.ndarray[Any, Any]:
    """Returns each channel's bias in steps of its sums, by the definition of the integer layer."""
    found = []
    for layer in nodes(graph, "Conv", "ConvTranspose", "Gemm"):
        made, stored = producer(layer.inputs[0], DEQUANTIZE), stored_weight(layer)
        made = made or producer(layer.inputs[0].producer().inputs[0], DEQUANTIZE)  # type: ignore[union-attr]
        assert made is not None
        assert stored is not None
        bias = constant(layer.inputs[2]).astype(np.float64)
        scale = np.broadcast_to(stored.scale.astype(np.float64), bias.shape)
        found.append(bias / (float(constant(made.inputs[1])) * scale))
        assert len(by_channel(layer, stored.values)) == len(bias)
    return np.concatenate(found) if found else np.zeros(0)


def worst(file: Path, expected: np.ndarray[Any, Any]) -> float:
    sessions = [onnxruntime.session(file, 1, False), onnxruntime.session(file, 1, True), openvino.session(file, 1)]
    return max(float(np.abs(one.run({"images": X.numpy()})["logits"] - expected).max()) for one in sessions)


@pytest.mark.parametrize("name", NETS)
def test_no_bias_is_lost(name: str, tmp_path: Path) -> None:
    model = calibrated(NETS[name]())
    made = to_onnx(model, X[:1], runtime_named("onnxruntime"))
    assert np.abs(steps_of_biases(made.graph)).max(initial=0) < 2**31
    ir.save(made, tmp_path / "a.onnx")
    with torch.no_grad():
        expected = model(X).numpy()
    assert worst(tmp_path / "a.onnx", expected) < 1e-3


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_weight_of_zeros_with_one_range(runtime: str, tmp_path: Path) -> None:
    layer = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([0.0, 1e-3, 0.5, -40]))  # type: ignore[union-attr]
    model = calibrated(nn.Sequential(layer).eval(), "tensor")
    assert model[0].weight_quantizer.amax.shape == ()  # type: ignore[union-attr,index]
    made = to_onnx(model, X[:1], runtime_named(runtime))
    assert np.abs(steps_of_biases(made.graph)).max() < 2**31
    ir.save(made, tmp_path / "a.onnx")
    assert worst(tmp_path / "a.onnx", model(X).detach().numpy()) < 1e-5


def test_an_activation_that_holds_nothing_gives_zeros_and_keeps_the_bias(tmp_path: Path) -> None:
    dead = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        dead.weight.zero_()
        dead.bias.zero_()  # type: ignore[union-attr]
    with pytest.warns(DeadActivationWarning):
        model = calibrated(nn.Sequential(dead, emptied(nn.Conv2d(3, 6, 1))[0]).eval())  # type: ignore[index]
    with torch.no_grad():
        dead.bias.fill_(0.7)  # type: ignore[union-attr]  # what comes there now is not 0
    model[0].refresh()
    made = to_onnx(model, X[:1], runtime_named("onnxruntime"))
    ir.save(made, tmp_path / "a.onnx")
    assert worst(tmp_path / "a.onnx", model(X).detach().numpy()) < 1e-5


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_values_of_fp8_beside_an_empty_channel_stay(runtime: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight.pow_(5)  # most are fractions of a step of whole numbers
        layer.weight[1] = 0
    model = qzoo.calibrate(qzoo.quantize(nn.Sequential(layer).eval(), "fp8", example=X), [X])
    stored = stored_weight(next(nodes(to_onnx(model, X[:1], runtime_named(runtime)).graph, "Conv")))
    assert stored is not None
    weight = layer.weight.detach()
    amax = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-20)
    right = (weight * (448 / amax)).to(torch.float8_e4m3fn).float().numpy()
    assert ((right != np.rint(right)).mean()) > 0.2
    assert np.array_equal(stored.values.astype(np.float32), right)


def test_what_fits_stays_as_it_is() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 6, 3)
    model = calibrated(nn.Sequential(layer).eval())
    graph = to_onnx(model, X[:1], runtime_named("onnxruntime")).graph
    stored = stored_weight(next(nodes(graph, "Conv")))
    assert stored is not None
    amax = layer.weight.detach().abs().amax((1, 2, 3))
    assert np.array_equal(stored.scale, (amax / 127).numpy())
    assert stored.name.endswith("values")
