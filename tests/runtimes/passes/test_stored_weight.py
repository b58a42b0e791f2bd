"""Which weights belong to which output channel, held against torch; weights stored as a product reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.quant.layers import channel_shape
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes, producer
from qzoo.runtimes.lint import lint
from qzoo.runtimes.passes.stored_weight import (
    StoredWeight,
    along_channels,
    by_channel,
    dequantized,
    steps,
    stored_weight,
)
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = pytest.mark.runtimes


def node(op_type: str, **attributes: int) -> ir.Node:
    weight = ir.Value(name="w")
    given = [ir.AttrInt64(name, value) for name, value in attributes.items()]
    return ir.Node("", op_type, [ir.Value(name="x"), weight], attributes=given)


CASES: list[tuple[ir.Node, tuple[int, ...], Any]] = [
    (node("Conv"), (6, 4, 3, 3), lambda w, x: nn.functional.conv2d(x, w)),
    (node("Conv", group=2), (6, 2, 3, 3), lambda w, x: nn.functional.conv2d(x, w, groups=2)),
    (node("ConvTranspose", group=1), (4, 6, 2, 2), lambda w, x: nn.functional.conv_transpose2d(x, w)),
    (node("ConvTranspose", group=2), (4, 3, 2, 2), lambda w, x: nn.functional.conv_transpose2d(x, w, groups=2)),
    (node("ConvTranspose", group=4), (4, 1, 2, 2), lambda w, x: nn.functional.conv_transpose2d(x, w, groups=4)),
    (node("ConvTranspose", group=4), (4, 2, 2, 2), lambda w, x: nn.functional.conv_transpose2d(x, w, groups=4)),
    (node("Gemm", transB=1), (6, 4), lambda w, x: x.flatten(2).mean(2) @ w.T),
    (node("Gemm"), (4, 6), lambda w, x: x.flatten(2).mean(2) @ w),
    (node("MatMul"), (4, 6), lambda w, x: x.flatten(2).mean(2) @ w),
]


@pytest.mark.parametrize(("layer", "shape", "run"), CASES, ids=lambda one: getattr(one, "op_type", None))
def test_channels_are_those_of_the_output(layer: ir.Node, shape: tuple[int, ...], run: Any) -> None:
    weight, x = torch.randn(shape), torch.randn(1, 4, 5, 5)
    rows = by_channel(layer, weight.numpy())
    factors = torch.rand(len(rows)) + 0.5
    scaled = weight * torch.from_numpy(along_channels(layer, factors.numpy(), shape))
    expected = run(weight, x)
    torch.testing.assert_close(
        run(scaled, x), expected * factors.view(1, -1, *[1] * (expected.dim() - 2)), rtol=1e-4, atol=1e-5
    )
    spread = np.broadcast_to(along_channels(layer, np.arange(len(rows)), shape), shape)
    assert (by_channel(layer, spread) == np.arange(len(rows))[:, None]).all()


@pytest.mark.parametrize(("layer", "shape", "run"), CASES, ids=lambda one: getattr(one, "op_type", None))
def test_what_is_written_is_read_again(layer: ir.Node, shape: tuple[int, ...], run: Any) -> None:
    layer = ir.Node("", layer.op_type, [ir.Value(name="x"), ir.Value(name="w")], attributes=layer.attributes.values())
    graph = ir.Graph(inputs=[layer.inputs[0]], outputs=[layer.outputs[0]], nodes=[layer], opset_imports={"": 21})
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    scale = np.linspace(0.1, 1, channels := len(by_channel(layer, values))).astype(np.float32)
    zero = np.arange(channels, dtype=np.uint8)
    first = ir.Node("", "DequantizeLinear", [ir.Value(name="w")])
    old = StoredWeight(first, values, scale, zero)
    layer.replace_input_with(1, dequantized(graph, layer, old, values, scale, zero, "new"))
    found = stored_weight(layer)
    assert found is not None
    assert np.array_equal(found.values, values)
    assert np.array_equal(found.scale, scale)
    assert np.array_equal(found.zero_point, zero)
    assert np.array_equal(by_channel(layer, steps(layer, found)), by_channel(layer, values) - zero[:, None].astype(int))
    assert found.name.startswith("w.new")


class Tokens(nn.Module):
    """A linear layer of tokens: three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.mix(x.flatten(2)).mean(1))
        return y


@pytest.fixture(scope="module")
def tokens() -> nn.Module:
    torch.manual_seed(0)
    x = torch.randn(16, 3, 2, 4)
    return qzoo.calibrate(qzoo.quantize(Tokens(), "int8", example=x[:1]), [x])


@pytest.fixture(scope="module")
def seven_bits() -> nn.Module:
    """The same with weights of 7 bits, whose sums of products overflow on no CPU."""
    torch.manual_seed(0)
    x = torch.randn(16, 3, 2, 4)
    model = qzoo.quantize(Tokens(), "int8", example=x[:1])
    for path, one in quantizers(model).items():
        if path.endswith("weight_quantizer"):
            layer = model.get_submodule(path.rpartition(".")[0])
            spec = one.spec.model_copy(update={"bits": 7})
            layer.weight_quantizer = TensorQuantizer(spec, channel_shape(layer))
    return qzoo.calibrate(model, [x])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_product_reads_the_stored_weight_itself(tokens: nn.Module, runtime: str) -> None:
    made = to_onnx(tokens, torch.zeros(1, 3, 2, 4), runtime_named(runtime))
    (product,) = nodes(made.graph, "MatMul")
    stored = producer(product.inputs[1], DEQUANTIZE)
    assert stored is not None
    weight = tokens.get_submodule("mix")
    scale = quantizers(tokens)["mix.weight_quantizer"].amax.flatten() / 127
    assert np.array_equal(constant(stored.inputs[0]), (weight.weight / scale[:, None]).round().detach().numpy().T)
    assert np.array_equal(constant(stored.inputs[1]), scale.numpy())
    assert stored.attributes["axis"].as_int() == 1
    assert not list(nodes(made.graph, "Transpose"))
    assert lint(made, runtime_named(runtime)).errors == []


class Called(nn.Module):
    """One linear layer, of three dimensions and of two."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.mix(self.mix(x.flatten(2).transpose(1, 2)).mean(1))
        return y


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_layer_called_on_two_and_on_three_dimensions_is_quantized_in_both(runtime: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 3)
    model = qzoo.calibrate(qzoo.quantize(Called().eval(), "int8", example=x), [x])
    made = to_onnx(model, x[:1], runtime_named(runtime))
    weight = model.mix.weight.detach()  # type: ignore[union-attr,operator]
    rounded = (weight / (scale := weight.abs().amax(1, keepdim=True) / 127)).round() * scale
    (product,), (layer,) = nodes(made.graph, "MatMul"), nodes(made.graph, "Gemm")
    for node, right in ((product, rounded.T), (layer, rounded)):
        stored = stored_weight(node)
        assert stored is not None
        along = along_channels(node, stored.scale, stored.values.shape)
        np.testing.assert_allclose(stored.values * along, right, rtol=1e-6)
    assert [one for one in lint(made, runtime_named(runtime)).errors if one.rule == "half-float"] == []


def test_the_logits_are_the_model_s(seven_bits: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(32, 3, 2, 4, generator=torch.Generator().manual_seed(1))
    ir.save(to_onnx(seven_bits, x[:1], runtime_named("onnxruntime")), tmp_path / "a.onnx")
    with torch.no_grad():
        expected = seven_bits(x).numpy()
    for optimized in (False, True):
        found = onnxruntime.session(tmp_path / "a.onnx", 1, optimized).run({"images": x.numpy()})["logits"]
        assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
