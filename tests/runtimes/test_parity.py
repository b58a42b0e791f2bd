"""Comparing a runtime with the model: what is right is within a step, and the first fault is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, consumers, nodes, producer
from qzoo.runtimes.parity import measure_parity
from qzoo.runtimes.passes.stored_weight import write_seven_bits
from qzoo.runtimes.probed_graph import activation_quantizers
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.runtime import Array, Feeds, Runtime, Session
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.tasks.adapt import adapt
from qzoo.tasks.measuring.machine import cpu_flags, has_dot_products
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


@pytest.mark.parametrize("names", [["a/b", "a"], ["it's", "'", "x', 'y"]], ids=str)
def test_modules_of_any_name_are_compared(names: list[str], tmp_path: Path) -> None:
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Conv2d(1, 1, 1))
    model = qzoo.calibrate(qzoo.quantize(model.eval(), "int8"), [digits(2)])
    report = qzoo.export(model, tmp_path / "a.onnx", images=[digits(2)])
    assert report.parity is not None
    assert [node.node for node in report.parity.nodes] == [f"{name}.input_quantizer" for name in names]
    assert max(node.alone for node in report.parity.nodes) <= 1


def test_a_static_graph_is_compared_image_by_image(tmp_path: Path) -> None:
    model = shipped(NAME, "onnxruntime")[0]
    ir.save(to_onnx(model, digits(1), runtime_named("onnxruntime"), dynamic="none"), tmp_path / "a.onnx")
    parity = measure_parity(model, tmp_path / "a.onnx", runtime_named("onnxruntime"), [digits(6)], images_a_time=1)
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
    session = onnxruntime.session

    def loaded(path: Path, threads: int | None, optimized: bool) -> Session:
        if optimized:
            raise UnsupportedError("ONNX Runtime can't load this graph with its optimizations")
        return session(path, threads, False)

    monkeypatch.setattr("qzoo.runtimes.onnxruntime.session", loaded)
    model, file = written(tmp_path, runtime="tensorrt")
    parity = measure_parity(model, file, runtime_named("tensorrt"), [digits(4)])
    assert {(node.optimized, node.optimized_share) for node in parity.nodes} == {(None, None)}


def test_fp8_has_no_steps_to_count(tmp_path: Path) -> None:
    model, file = written(tmp_path, "resnet8_digits_fp8")
    parity = measure_parity(model, file, runtime_named("tensorrt"), [digits(8)])
    assert (parity.nodes, parity.agreement_plain) == ([], 100.0)
    assert parity.logit_difference < 0.05 * parity.largest_logit


class WithADeadChannel(nn.Module):
    """Its first layer has a channel of zero weights, and a bias: half a step of any scale gives the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.first.weight[1], self.first.bias[1] = 0, 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).mean((2, 3))


def dead_channel(folder: Path, scale: float) -> tuple[nn.Module, Path, torch.Tensor]:
    """Exports it, and writes another scale of the dead channel, whose integers are all 0."""
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    model = qzoo.calibrate(qzoo.quantize(WithADeadChannel().eval(), "int8_ort", example=x[:1]), [x])
    changed = to_onnx(model, x[:1], runtime_named("onnxruntime"))
    layer = next(nodes(changed.graph, "Conv"))
    stored = producer(layer.inputs[1], DEQUANTIZE)
    assert stored is not None
    assert not constant(stored.inputs[0])[1].any()
    scales = constant(stored.inputs[1]).copy()
    scales[1] = scale
    stored.replace_input_with(1, add_constant(changed.graph, "planted", scales))
    ir.save(changed, folder / "a.onnx")
    return model, folder / "a.onnx", x


@pytest.mark.parametrize("share", [1.01, 1.9, 1e9, 1e28])
def test_a_bias_that_overflows_once_optimized_is_named(share: float, tmp_path: Path) -> None:
    # The int32 of a bias is bias / (s_x s_w): at 2^31 it overflows. Nothing is wrong without optimizations.
    model, _, _ = dead_channel(tmp_path, 1.0)
    step = float(model.first.input_quantizer.amax) / 127
    model, file, x = dead_channel(tmp_path, max(0.5 / (2**31 * step * share), 1.2e-38))
    parity = measure_parity(model, file, runtime_named("onnxruntime"), [x])
    assert parity.first_diverging == "second.input_quantizer"
    assert parity.first_overflowing != "second.input_quantizer"
    node = next(node for node in parity.nodes if node.node == "second.input_quantizer")
    assert node.alone <= 1
    assert node.optimized_alone is not None
    assert node.optimized_alone > 1


def test_a_bias_that_fits_is_right(tmp_path: Path) -> None:
    model, file, x = dead_channel(tmp_path, 0.01)
    parity = measure_parity(model, file, runtime_named("onnxruntime"), [x])
    assert parity.first_diverging is None
    assert not parity.beyond or parity.overflows


def test_another_runtime_s_graph_does_not_fail_by_onnx_runtime(tmp_path: Path) -> None:
    model, file, x = dead_channel(tmp_path, 1.2e-38)
    parity = measure_parity(model, file, runtime_named("tensorrt"), [x])
    assert parity.first_diverging is None
    assert {node.optimized_alone for node in parity.nodes} == {None}


def test_layers_after_the_last_quantizer_are_compared_too(tmp_path: Path) -> None:
    model, file = written(tmp_path)
    changed = ir.from_proto(onnx.load(file))
    layer = list(nodes(changed.graph, "Gemm"))[-1]
    wrong = constant(layer.inputs[2]) + np.float32(1)
    layer.replace_input_with(2, add_constant(changed.graph, "planted", wrong))
    ir.save(changed, file)
    parity = measure_parity(model, file, runtime_named("onnxruntime"), [digits(8)])
    assert parity.agreement_plain == 100, "which predictions don't show"
    assert parity.first_diverging == "logits"


def test_results_on_ties_are_no_fault(tmp_path: Path) -> None:
    # Inputs of whole steps, weights that are powers of two and averages of halves: every second result lies on a tie.
    model = nn.Sequential(nn.Conv2d(1, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False), nn.Flatten())
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(torch.full_like(layer.weight, 0.5))
            layer.weight[::2] *= -1
    x = torch.arange(-32, 32).float().reshape(4, 1, 4, 4)
    found = qzoo.calibrate(qzoo.quantize(model.eval(), "int8_ort", example=x[:1]), [x])
    for quantizer in quantizers(found).values():
        quantizer.set_amax(torch.full_like(quantizer.amax, 127 / 128 if quantizer.amax.numel() > 1 else 127.0))
    for runtime in ("onnxruntime", "openvino"):
        ir.save(to_onnx(found, x[:1], runtime_named(runtime)), tmp_path / "a.onnx")
        parity = measure_parity(found, tmp_path / "a.onnx", runtime_named(runtime), [x])
        assert parity.first_diverging is None
        assert not parity.beyond


def play(session: Callable[[Path], Array]) -> Runtime:
    """A runtime that gives the logits of ONNX Runtime without optimizations, changed."""

    class Played:
        def __init__(self, path: Path, threads: int | None, optimized: bool) -> None:
            self.path, self.session = path, onnxruntime.session(path, threads, False)

        def run(self, feeds: Feeds) -> dict[str, Array]:
            return {name: found * session(self.path) for name, found in self.session.run(feeds).items()}

    return replace(runtime_named("openvino"), session=Played)


def largest_weight(path: Path) -> int:
    graph = ir.load(path).graph
    stored = [constant(node.inputs[0]) for node in nodes(graph, DEQUANTIZE)]
    return max(int(np.abs(one.astype(np.int32)).max()) for one in stored if one is not None)


@pytest.mark.parametrize(
    ("kernel", "overflows"),
    [
        (lambda path: np.float32(0.7 if largest_weight(path) > 64 else 1), True),
        (lambda path: np.float32(0.7), False),
        (lambda path: np.float32(np.nan), False),
    ],
    ids=["of 16 bits", "wrong", "nan"],
)
def test_why_a_runtime_is_off_is_measured(kernel: Any, overflows: bool, tmp_path: Path) -> None:
    model, file = written(tmp_path, runtime="openvino")
    parity = measure_parity(model, file, play(kernel), [digits(8)])
    assert parity.beyond
    assert parity.overflows is overflows
    assert parity.first_diverging is None


def test_what_is_right_needs_no_reason(tmp_path: Path) -> None:
    model, file = written(tmp_path, runtime="openvino")
    parity = measure_parity(model, file, play(lambda path: np.float32(0.97)), [digits(8)])
    assert not parity.beyond
    assert parity.seven_bit_difference is None
    assert parity.logit_limit == pytest.approx(0.05 * parity.largest_logit)


def test_weights_of_seven_bits_are_half_the_integers_of_twice_the_scale(tmp_path: Path) -> None:
    _, file = written(tmp_path)
    write_seven_bits(file, tmp_path / "b.onnx")
    assert (largest_weight(file), largest_weight(tmp_path / "b.onnx")) == (127, 64)
    assert 255 * (64 + 64) <= 2**15 - 1
    feeds = {"images": digits(8).numpy()}
    before, after = (onnxruntime.session(one, 1, False).run(feeds)["logits"] for one in (file, tmp_path / "b.onnx"))
    assert np.abs(before - after).max() < 0.1 * np.abs(before).max()


@pytest.mark.skipif(has_dot_products(cpu_flags()) is not False, reason="this CPU sums products in 32 bits")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_overflowing_products_of_this_cpu_are_told_as_such(runtime: str, tmp_path: Path) -> None:
    model = shipped(NAME, runtime)[0]
    if runtime == "onnxruntime":  # which runs what is not adapted in float
        model = adapt(model, runtime_named(runtime), [digits()])
    ir.save(to_onnx(model, digits(1), runtime_named(runtime)), tmp_path / "a.onnx")
    parity = measure_parity(model, tmp_path / "a.onnx", runtime_named(runtime), [digits(32)])
    assert (parity.beyond, parity.overflows, parity.first_diverging) == (True, True, None)
    assert (parity.first_overflowing is not None) is (runtime == "onnxruntime")
