"""Comparing a runtime with the model: what is right is within a step, and the first fault is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.ranges import quantizers
from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, consumers, nodes, producer
from qzoo.runtimes.parity import measure_parity
from qzoo.runtimes.probed import ProbedSession, activation_quantizers
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.runtimes.conftest import digits, shipped

pytestmark = pytest.mark.runtimes

NAME = "resnet8_digits_int8"


def written(folder: Path, name: str = NAME, runtime: str = "onnxruntime") -> tuple[nn.Module, Path]:
    model, file = shipped(name, runtime)
    (folder / "a.onnx").write_bytes(file)
    return model, folder / "a.onnx"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_quantizer_fed_rightly_is_within_a_step(runtime: str, tmp_path: Path) -> None:
    model, file = written(tmp_path, runtime=runtime)
    parity = measure_parity(model, file, runtime_named(runtime), [digits(8), digits(24)])
    assert parity.images == 32
    assert parity.own_runtime is (runtime != "tensorrt")
    paths = [path for path in quantizers(model) if not path.endswith("weight_quantizer")]
    assert [node.node for node in parity.nodes] == paths
    assert max(node.alone for node in parity.nodes) <= 1
    assert parity.first_diverging is None
    assert parity.agreement_plain == 100
    assert parity.agreement >= 96
    assert parity.logit_difference_plain < 0.05 * parity.largest_logit
    assert all(node.plain <= 1 and node.plain_share < 0.02 for node in parity.nodes)


@pytest.mark.parametrize("wrong", ["weight", "scale"])
def test_the_first_fault_is_named(wrong: str, tmp_path: Path) -> None:
    model, file = written(tmp_path)
    changed = ir.from_proto(onnx.load(file))
    graph = changed.graph
    if wrong == "weight":
        layer = list(nodes(graph, "Conv"))[2]
        stored = producer(layer.inputs[1], DEQUANTIZE)
        assert stored is not None
        stored.replace_input_with(0, add_constant(graph, "planted", -constant(stored.inputs[0])))
        expected = "layer2.conv1.input_quantizer"
    else:
        expected = "layer2.conv1.input_quantizer"
        node = activation_quantizers(graph)[expected]
        scale = add_constant(graph, "planted", constant(node.inputs[1]) * np.float32(0.5))
        node.replace_input_with(1, scale)
        consumers(node.outputs[0])[0].replace_input_with(1, scale)
    ir.save(changed, file)
    parity = measure_parity(model, file, runtime_named("onnxruntime"), [digits(8)])
    assert parity.first_diverging == expected
    before = [node.node for node in parity.nodes].index(expected)
    assert all(node.alone <= 1 for node in parity.nodes[:before])


def test_a_static_graph_is_compared_image_by_image(tmp_path: Path) -> None:
    model = shipped(NAME, "onnxruntime")[0]
    ir.save(to_onnx(model, digits(1), runtime_named("onnxruntime"), dynamic=False), tmp_path / "a.onnx")
    parity = measure_parity(model, tmp_path / "a.onnx", runtime_named("onnxruntime"), [digits(6)], dynamic=False)
    assert (parity.images, parity.agreement_plain, parity.first_diverging) == (6, 100, None)


class AddsInPlace(nn.Module):
    """Writes the sum over one of the quantized inputs, as torchvision's residual blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        y += x
        return y.flatten(1)


def test_what_the_model_overwrites_is_compared_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = qzoo.calibrate(qzoo.quantize(AddsInPlace(), "int8_ort", example=digits(1)), [digits()])
    ir.save(to_onnx(model, digits(1), runtime_named("onnxruntime")), tmp_path / "a.onnx")
    parity = measure_parity(model, tmp_path / "a.onnx", runtime_named("onnxruntime"), [digits(8)])
    assert [node.node for node in parity.nodes if "residual" in node.node]
    assert max(node.alone for node in parity.nodes) <= 1


def test_a_graph_that_onnx_runtime_can_not_optimize_is_compared_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(path: Path, *, optimized: bool) -> ProbedSession:
        if optimized:
            raise UnsupportedError("ONNX Runtime can't load this graph with its optimizations")
        return ProbedSession(path, optimized=False)

    monkeypatch.setattr("qzoo.runtimes.parity.ProbedSession", loaded)
    model, file = written(tmp_path, runtime="tensorrt")
    parity = measure_parity(model, file, runtime_named("tensorrt"), [digits(4)])
    assert {(node.optimized, node.optimized_share) for node in parity.nodes} == {(None, None)}


def test_fp8_has_no_steps_to_count(tmp_path: Path) -> None:
    model, file = written(tmp_path, "resnet8_digits_fp8")
    parity = measure_parity(model, file, runtime_named("tensorrt"), [digits(8)])
    assert (parity.nodes, parity.agreement_plain) == ([], 100.0)
    assert parity.logit_difference < 0.05 * parity.largest_logit
