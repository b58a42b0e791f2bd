"""Runtimes average what is padded as torch does, whatever 0 is stored as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes, producer
from qzoo.runtimes.lint import lint
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.runtime import Runtime
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.tasks.measuring.machine import cpu_flags, has_dot_products
from tests.each import for_each

pytestmark = pytest.mark.runtimes

OPENVINO = runtime_named("openvino")
UNCHANGED = replace(OPENVINO, pads_zero_points=True)
"""What exports without the pass."""


class Pooled(nn.Module):
    """A convolution whose output reaches below 0, and something that averages it."""

    def __init__(self, pooling: nn.Module, dims: int = 2) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.conv, self.pooling = conv(1, 3, 3), pooling

    def forward(self, x: Tensor) -> Any:
        return self.pooling(F.leaky_relu(self.conv(x), 0.5))


class After(nn.Module):
    """A pooling, something in float, and another pooling, which nobody quantizes."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.pooling, self.between = nn.AvgPool2d(1), between

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.between(self.pooling(x)), 3, 2, padding=1)


def calibrated(pooling: nn.Module, dims: int = 2, symmetric: bool = False) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    images = torch.rand(4, 1, *[9] * dims) * 3 - 1
    rules = [{"match": {"type": "pooling"}, "input": {"symmetric": symmetric}}]
    model = qzoo.quantize(Pooled(pooling, dims).eval(), "int8_asym", rules=rules, example=images)
    return qzoo.calibrate(model, [images]).eval(), images


def assert_right(model: nn.Module, images: Tensor, folder: Path, runtime: Runtime = OPENVINO) -> ir.Model:
    """Holds what a runtime gives of the graph that it gets against what torch's own pooling gives."""
    made = to_onnx(model, images[:1], runtime)
    ir.save(made, folder / "a.onnx")
    (found,) = runtime.session(folder / "a.onnx", 1, True).run({"images": images.numpy()}).values()
    with torch.no_grad():
        right = model(images).numpy()
    np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())
    return made


POOLINGS = {
    "square": (nn.AvgPool2d(3, 2, padding=1), 2),
    "padding not counted": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), 2),
    "largest before": (nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.AvgPool2d(3, 2, padding=1)), 2),
    "one dimension": (nn.AvgPool1d(3, 2, padding=1), 1),
    "three dimensions": (nn.AvgPool3d(3, 2, padding=1), 3),
    "turned round": (After(lambda x: x.transpose(2, 3)), 2),
}


@for_each("pooling, dims", POOLINGS.values())
def test_openvino_averages_what_torch_does(tmp_path: Path, pooling: nn.Module, dims: int) -> None:
    assert_right(*calibrated(pooling, dims), tmp_path)


@pytest.mark.parametrize("added", [lambda x: 1 - x, lambda x: torch.cat([x[:, :2], x[:, 2:] + 0.3], 1)])
def test_what_was_added_is_no_padding_either(added: Any, tmp_path: Path) -> None:
    made = assert_right(*calibrated(After(added), symmetric=True), tmp_path)
    assert not lint(made, OPENVINO).errors


def test_an_average_becomes_integers_of_1_and_stays_on_integers(tmp_path: Path) -> None:
    model, images = calibrated(nn.AvgPool2d(3, 2, padding=1))
    made = to_onnx(model, images[:1], OPENVINO)
    (layer,) = [node for node in nodes(made.graph, "Conv") if node.name == "pooling/AveragePool"]
    weight = producer(layer.inputs[1], DEQUANTIZE)
    assert weight is not None
    values, scale = (constant(weight.inputs[place]) for place in (0, 1))
    assert (values.shape, values.dtype, set(values.ravel())) == ((3, 1, 3, 3), np.int8, {1})
    assert scale == np.float32(1 / 9)
    ir.save(made, tmp_path / "a.onnx")
    assert OPENVINO.kernels is not None
    assert OPENVINO.kernels(tmp_path / "a.onnx")["logits"].integer


@for_each("runtime, symmetric", [(name, kind) for name in ("onnxruntime", "openvino") for kind in (True, False)])
def test_windows_that_reach_beyond_the_padding_count_what_torch_counts(
    tmp_path: Path, runtime: str, symmetric: bool
) -> None:
    pooling = nn.AvgPool2d(4, 3, padding=1, ceil_mode=True)
    assert_right(*calibrated(pooling, symmetric=symmetric), tmp_path, runtime_named(runtime))


def test_one_of_zero_stored_as_0_stays_a_pooling() -> None:
    model, images = calibrated(nn.AvgPool2d(3, 2, padding=1), symmetric=True)
    assert len(list(nodes(to_onnx(model, images[:1], OPENVINO).graph, "AveragePool"))) == 1


def test_a_batch_norm_after_it_is_folded(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(3)
    norm.weight.data[:], norm.bias.data[:] = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 0.2, 0.3])
    made = assert_right(*calibrated(nn.Sequential(nn.AvgPool2d(3, 2, padding=1), norm)), tmp_path)
    assert not list(nodes(made.graph, "BatchNormalization"))


def test_the_rules_tell_of_one_that_stays() -> None:
    model, images = calibrated(nn.AvgPool2d(3, 2, padding=1))
    unchanged = to_onnx(model, images[:1], UNCHANGED)
    (found,) = lint(unchanged, OPENVINO).errors
    assert str(found) == (
        "padded-average: pooling/AveragePool: it counts padding, and OpenVINO pads what has zero points, or was added "
        "to, with other values than 0; make it a convolution, or count_include_pad=False"
    )
    assert not lint(unchanged, runtime_named("onnxruntime")).errors


def test_exporting_a_scheme_with_zero_points_is_on_par(tmp_path: Path) -> None:
    model, images = calibrated(nn.Sequential(nn.AvgPool2d(3, 2, padding=1), nn.Flatten(), nn.Linear(48, 4)))
    report = qzoo.export(model, tmp_path / "a.onnx", "openvino", images=[images])
    assert report.parity is not None
    assert report.parity.first_diverging is None
    # Of a CPU without VNNI products of 8 bits may overflow, and nothing else may be off.
    if report.parity.beyond:
        assert report.parity.overflows
        assert not has_dot_products(cpu_flags())
    else:
        assert report.fault is None
