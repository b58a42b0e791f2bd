"""Zero points in files: rounded as ONNX Runtime rounds, in integer kernels, and refused where a runtime has none."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, nodes
from qzoo.runtimes.lint import lint
from qzoo.runtimes.quant_ops import ExportedActivation, ExportedWeight
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.schema.quantizer import QuantizerSpec
from tests.random_networks.checking import Together
from tests.random_networks.differences import differences

pytestmark = pytest.mark.runtimes

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@functools.cache
def operators(dtype: torch.dtype, axis: int | None = None) -> Any:
    """ONNX Runtime's own operators of a type: a pair of both; of channels, DequantizeLinear alone."""
    import onnxruntime as ort

    kind = {torch.uint8: TensorProto.UINT8, torch.int8: TensorProto.INT8, torch.uint16: TensorProto.UINT16,
            torch.int16: TensorProto.INT16}[dtype]  # fmt: skip
    given, stored, along = ("x", "q", {}) if axis is None else ("q", "q", {"axis": axis})
    made = [helper.make_node(DEQUANTIZE, ["q", "scale", "zero"], ["y"], **along)]
    if axis is None:
        made.insert(0, helper.make_node(QUANTIZE, ["x", "scale", "zero"], ["q"]))
    types = {"x": TensorProto.FLOAT, stored: kind, "scale": TensorProto.FLOAT, "zero": kind}
    inputs = [helper.make_tensor_value_info(name, types[name], None) for name in (given, "scale", "zero")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(made, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 21)]
    )
    model.ir_version = 10
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: Any, *values: Tensor) -> Any:
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {name: one.numpy() for name, one in zip(names, values, strict=True)})[0]


def quantizer(bits: int, amax: Tensor, zero: Tensor, symmetric: Any = False) -> TensorQuantizer:
    made = TensorQuantizer(QuantizerSpec(bits=bits, symmetric=symmetric), tuple(amax.shape))
    made.set_amax(amax, None, zero.to(torch.int32))
    return made


def assert_same_steps(found: Any, expected: Tensor, x: Tensor, step: Any) -> None:
    """Equal where x is not within a thousandth of a tie, and within a step there."""
    steps = (torch.as_tensor(found).double() - expected.double()) / step
    tie = ((x.double() / step) % 1 - 0.5).abs() < 1e-3
    assert float(steps.abs().max()) < 1.01
    assert float(steps[~tie].abs().max()) < 0.01


@given(bits=st.integers(2, 16), place=st.floats(0, 1), amax=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_an_activation_is_stored_as_onnx_runtime_rounds_it(bits: int, place: float, amax: float, seed: int) -> None:
    top = 2**bits - 1
    one = quantizer(bits, torch.tensor(amax), torch.tensor(round(place * top)))
    x = amax * torch.randn(300, generator=torch.Generator().manual_seed(seed))
    made = ExportedActivation(one)
    clipped = x if made.ends is None else x.clamp(*made.ends)
    found = run(operators(made.zero_point.dtype), clipped, made.scale, made.zero_point)
    assert_same_steps(found, one(x), x, amax / top)
    assert run(operators(made.zero_point.dtype), torch.zeros(1), made.scale, made.zero_point) == 0


@pytest.mark.parametrize(("shifted", "dtype", "zero"), [(True, torch.uint8, 128), (False, torch.int8, 0)])
@given(bits=st.integers(2, 8), amax=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_half_a_range_below_zero_is_as_good_as_signed(
    bits: int, amax: float, seed: int, shifted: bool, dtype: torch.dtype, zero: int
) -> None:
    one = quantizer(bits, torch.tensor(amax), torch.tensor(2 ** (bits - 1)), "auto")
    x = amax * torch.randn(300, generator=torch.Generator().manual_seed(seed))
    made = ExportedActivation(one, shifted=shifted)
    assert (made.zero_point.dtype, int(made.zero_point)) == (dtype, zero)
    clipped = x if made.ends is None else x.clamp(*made.ends)
    found = run(operators(dtype), clipped, made.scale, made.zero_point)
    assert_same_steps(found, one(x), x, amax / (2**bits - 1))


@given(bits=st.integers(2, 16), seed=st.integers(0, 1000), middle=st.booleans())
def test_a_weight_is_what_onnx_runtime_dequantizes(bits: int, seed: int, middle: bool) -> None:
    chance = torch.Generator().manual_seed(seed)
    weight, amax = torch.randn(5, 4, 3, generator=chance), torch.rand(5, 1, 1, generator=chance) + 0.1
    zero = torch.full_like(amax, 2 ** (bits - 1)) if middle else torch.randint(0, 2**bits, amax.shape, generator=chance)
    one = quantizer(bits, amax, zero, "auto")
    made = ExportedWeight(one, weight)
    assert made.values.dtype.is_signed is middle or bool((zero == 2 ** (bits - 1)).all())
    found = run(operators(made.values.dtype, 0), made.values, made.scale, made.zero_point)
    np.testing.assert_allclose(found, one(weight).numpy(), rtol=1e-6, atol=1e-6)


class Block(nn.Module):
    """Padded convolutions between SiLU and ReLU, a residual addition, and a linear layer of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm = nn.Conv2d(8, 8, 3, padding=2, bias=False), nn.BatchNorm2d(8)
        self.depth, self.narrow = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)
        self.relu, self.silu, self.tokens = nn.ReLU(), nn.SiLU(), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.relu(self.depth(self.silu(self.norm(self.wide(x))))))
        return self.tokens((x + y).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


@functools.cache
def calibrated(weights: Any = True, bits: int = 8) -> nn.Module:
    torch.manual_seed(0)
    head = [
        nn.ConvTranspose2d(8, 8, 2, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 10),
    ]
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), Block(), *head).train()
    with torch.no_grad():
        norm = net[2].norm
        norm.weight.uniform_(-2, 2)  # type: ignore[union-attr,operator]
        norm.bias.uniform_(-1, 1)  # type: ignore[union-attr,operator]
        net[2].narrow.weight[0] *= 1e-9  # type: ignore[union-attr,operator,index]  # a scale that has to be made usable
        net(X)
    rule = {"match": {"type": "weighted"}, "weight": {"symmetric": weights, "bits": bits}}
    made = qzoo.quantize(net.eval(), "int8_asym", residual="both", rules=[rule], example=X[:1])
    return qzoo.calibrate(made, [X])


def zero_points(graph: ir.Graph, *, of_weights: bool) -> set[int]:
    found = [node for node in nodes(graph, DEQUANTIZE) if (constant(node.inputs[0]) is not None) is of_weights]
    return {int(zero) for node in found for zero in constant(node.inputs[2]).reshape(-1)}


@pytest.mark.parametrize(
    ("runtime", "weights", "on_integers"),
    [
        ("onnxruntime", True, {"2.depth/Conv", "2.narrow/Conv", "2.tokens/MatMul", "6/Gemm"}),
        ("onnxruntime", False, {"2.depth/Conv", "2.narrow/Conv", "2.tokens/MatMul", "6/Gemm"}),
        ("openvino", True, {"2.wide/Conv", "2.depth/Conv", "2.narrow/Conv", "8/Gemm"}),
    ],
)
def test_each_quantizer_is_within_a_step_and_layers_run_on_integers(
    runtime: str, weights: bool, on_integers: set[str], tmp_path: Path
) -> None:
    model, target = calibrated(weights), runtime_named(runtime)
    file, together = tmp_path / "a.onnx", Together({0: model})
    graph = to_onnx(together, X[:2], target)
    ir.save(graph, file)
    assert {way: off for way, off in differences(together, file, runtime, X).items() if off} == {}
    assert len(zero_points(graph.graph, of_weights=False)) > 5
    assert (len(zero_points(graph.graph, of_weights=True)) > 10) is not weights
    kernels = target.kernels(file)  # type: ignore[misc]
    layers = [node.name or "" for node in nodes(graph.graph, *LAYERS)]
    found = {name.removeprefix("networks.seed0.") for name in layers if name in kernels and kernels[name].integer}
    assert on_integers <= found
    assert [one.rule for one in lint(graph, target).errors] == []


def test_openvino_is_told_that_it_computes_weights_with_zero_points_in_float() -> None:
    report = lint(to_onnx(calibrated(False), X[:1], runtime_named("openvino")), runtime_named("openvino"))
    assert {one.rule for one in report.errors} == {"weight-zero-point"}
    assert "for OpenVINO weights are `symmetric: true`" in report.errors[0].message
    assert "3/ConvTranspose: it reads zero points" in " ".join(map(str, report.notes))


def test_weights_of_four_bits_with_zero_points_are_stored_in_four(tmp_path: Path) -> None:
    model = calibrated(False, 4)
    report = qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", example=X[:1], int4=True)
    graph = ir.load(tmp_path / "a.onnx").graph
    stored = [node for node in nodes(graph, DEQUANTIZE) if constant(node.inputs[0]) is not None]
    assert {node.inputs[0].dtype for node in stored} == {ir.DataType.UINT4}  # type: ignore[union-attr]
    found = onnxruntime.session(tmp_path / "a.onnx", 1, False).run({"images": X[:1].numpy()})["logits"]
    with torch.no_grad():
        expected = model(X[:1]).numpy()
    assert report.opset == 21
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_tensorrt_refuses_zero_points_by_name() -> None:
    with pytest.raises(UnsupportedError) as refused:
        to_onnx(calibrated(False), X[:1], runtime_named("tensorrt"))
    count = len(quantizers(calibrated(False)))
    words = (
        f"TensorRT takes no zero points. Of this model {count} of {count} quantizers have one: 0.input_quantizer, 0."
    )
    assert str(refused.value).startswith(words)
    assert "Say `symmetric: true` of them" in str(refused.value)


def test_tensorrt_takes_ranges_that_came_out_symmetric() -> None:
    rule = {"match": {"type": "weighted"}, "weight": {"symmetric": "auto"}, "input": {"symmetric": "auto"}}
    x = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[:, 0, 0, 0], layer.weight[:, 0, 0, 1] = 1, -1  # as far below 0 as above
    model = qzoo.calibrate(qzoo.quantize(nn.Sequential(layer), "int8", rules=[rule], example=x), [x])
    assert {int(zero) for one in quantizers(model).values() for zero in one.zero_point.flatten()} == {128}  # type: ignore[union-attr]
    graph = to_onnx(model, x[:1], runtime_named("tensorrt")).graph
    assert zero_points(graph, of_weights=True) | zero_points(graph, of_weights=False) == {0}
    assert {constant(node.inputs[2]).dtype for node in nodes(graph, DEQUANTIZE)} == {np.dtype(np.int8)}
