"""Faults planted into a graph that has none: each is found, under its name, and at its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import WeightsError
from qzoo.runtimes.graph import (
    DEQUANTIZE,
    QUANTIZE,
    add_constant,
    constant,
    consumers,
    nodes,
    producer,
)
from qzoo.runtimes.lint import lint, lint_file
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.runtimes.conftest import digits, network

pytestmark = pytest.mark.runtimes

ORT, TENSORRT = runtime_named("onnxruntime"), runtime_named("tensorrt")
Plant = Callable[[ir.Graph], Any]


def activation(graph: ir.Graph, place: int = 1) -> ir.Node:
    """A quantizer of an activation; the first one reads the images."""
    return [node for node in nodes(graph, QUANTIZE) if constant(node.inputs[0]) is None][place]


def pair(node: ir.Node) -> ir.Node:
    return consumers(node.outputs[0])[0]


def stored(graph: ir.Graph, place: int = 1) -> ir.Node:
    """What gives a layer its weight."""
    found = producer(list(nodes(graph, "Conv"))[place].inputs[1], DEQUANTIZE)
    assert found is not None
    return found


def insert(graph: ir.Graph, after: ir.Value, *ops: tuple[str, list[ir.Value]]) -> None:
    """Puts operators between a value and all its readers."""
    readers = list(after.uses())
    value = after
    for op_type, more in ops:
        node = ir.Node("", op_type, [value, *more], num_outputs=1, name=f"planted/{op_type}")
        graph.insert_before(readers[0].node, node)
        value = node.outputs[0]
    for use in readers:
        use.node.replace_input_with(use.idx, value)


def constants(graph: ir.Graph, scale: Any, zero: Any) -> list[ir.Value]:
    return [
        add_constant(graph, "planted.scale", np.asarray(scale, np.float32)),
        add_constant(graph, "planted.zero", zero),
    ]


def conv_read_by(graph: ir.Graph, op_type: str) -> ir.Node:
    return next(node for node in nodes(graph, "Conv") if consumers(node.outputs[0])[0].op_type == op_type)


def drop_dequantize(graph: ir.Graph) -> None:
    node = activation(graph)
    pair(node).outputs[0].replace_all_uses_with(node.outputs[0])


def dequantize_of_float(graph: ir.Graph) -> None:
    pair(activation(graph)).replace_input_with(0, activation(graph).inputs[0])


def another_scale(graph: ir.Graph) -> None:
    node = pair(activation(graph))
    node.replace_input_with(1, add_constant(graph, "planted", constant(node.inputs[1]) * np.float32(1.01)))


def another_zero_point(graph: ir.Graph) -> None:
    node = pair(activation(graph))
    node.replace_input_with(2, add_constant(graph, "planted", np.array(3, np.uint8)))


def scale_of(value: float) -> Plant:
    def plant(graph: ir.Graph) -> None:
        node, scale = activation(graph), add_constant(graph, "planted", np.array(value, np.float32))
        node.replace_input_with(1, scale)
        pair(node).replace_input_with(1, scale)

    return plant


def scale_for_each_channel(graph: ir.Graph) -> None:
    node, scale = activation(graph), add_constant(graph, "planted", np.full(8, 0.1, np.float32))
    node.replace_input_with(1, scale)
    pair(node).replace_input_with(1, scale)


def float_input(graph: ir.Graph) -> None:
    node = activation(graph)
    layer = next(one for one in consumers(pair(node).outputs[0]) if one.op_type == "Conv")
    layer.replace_input_with(0, node.inputs[0])


def float_weight(graph: ir.Graph) -> None:
    node = stored(graph)
    shape = constant(node.inputs[0]).shape
    layer = consumers(node.outputs[0])[0]
    layer.replace_input_with(1, add_constant(graph, "planted", np.zeros(shape, np.float32)))


def quantizer_before_relu(graph: ir.Graph) -> None:
    layer = conv_read_by(graph, "Relu")
    more = constants(graph, 0.1, np.array(128, np.uint8))
    insert(graph, layer.outputs[0], (QUANTIZE, more), (DEQUANTIZE, more))


def batch_norm_left(graph: ir.Graph) -> None:
    layer = conv_read_by(graph, "Relu")
    ones = [add_constant(graph, f"planted{n}", np.ones(8, np.float32)) for n in range(4)]
    insert(graph, layer.outputs[0], ("BatchNormalization", ones))


def axis_of_the_inputs(graph: ir.Graph) -> None:
    stored(graph).attributes["axis"] = ir.AttrInt64("axis", 1)


def too_few_scales(graph: ir.Graph) -> None:
    node = stored(graph)
    node.replace_input_with(1, add_constant(graph, "planted", np.ones(5, np.float32)))


def weight_stored_as_float(graph: ir.Graph) -> None:
    node = stored(graph)
    values, scale = constant(node.inputs[0]), constant(node.inputs[1])
    weight = add_constant(graph, "planted", (values * scale.reshape(-1, 1, 1, 1)).astype(np.float32))
    quantized = ir.Node("", QUANTIZE, [weight, node.inputs[1]], num_outputs=1, name="planted/QuantizeLinear",
                        attributes=[ir.AttrInt64("axis", 0)])  # fmt: skip
    graph.insert_before(node, quantized)
    node.replace_input_with(0, quantized.outputs[0])


def padding_before_the_layer(graph: ir.Graph) -> None:
    pads = add_constant(graph, "planted.pads", np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    value = pair(activation(graph)).outputs[0]
    node = ir.Node("", "Pad", [value, pads], num_outputs=1, name="planted/Pad")
    layer = next(one for one in consumers(value) if one.op_type == "Conv")
    graph.insert_before(layer, node)
    layer.replace_input_with(0, node.outputs[0])


def signed_type(graph: ir.Graph) -> None:
    node = activation(graph)
    zero = add_constant(graph, "planted", np.array(-128, np.int8))
    node.replace_input_with(2, zero)
    pair(node).replace_input_with(2, zero)


def zero_point_after_relu(graph: ir.Graph) -> None:
    node = activation(graph)
    zero = add_constant(graph, "planted", np.array(9, np.uint8))
    node.replace_input_with(2, zero)
    pair(node).replace_input_with(2, zero)


def signed_after_relu(graph: ir.Graph) -> None:
    node = activation(graph)
    zero = add_constant(graph, "planted", np.array(128, np.uint8))
    node.replace_input_with(2, zero)
    pair(node).replace_input_with(2, zero)


def second_quantizer(graph: ir.Graph) -> None:
    node = activation(graph)
    more = constants(graph, 0.07, np.array(0, np.uint8))
    again = ir.Node("", QUANTIZE, [node.inputs[0], *more], num_outputs=1, name="planted/QuantizeLinear")
    back = ir.Node("", DEQUANTIZE, [again.outputs[0], *more], num_outputs=1, name="planted/DequantizeLinear")
    graph.insert_before(node, [again, back])
    addition = next(one for one in consumers(pair(node).outputs[0]) if one.op_type == "Add")
    addition.replace_input_with(list(addition.inputs).index(pair(node).outputs[0]), back.outputs[0])


def rounded_twice(graph: ir.Graph) -> None:
    more = constants(graph, 0.3, np.array(0, np.uint8))
    insert(graph, pair(activation(graph)).outputs[0], (QUANTIZE, more), (DEQUANTIZE, more))


def float_operand(graph: ir.Graph) -> None:
    addition = next(nodes(graph, "Add"))
    quantized = producer(addition.inputs[0], DEQUANTIZE)
    assert quantized is not None
    before = producer(quantized.inputs[0], QUANTIZE)
    assert before is not None
    addition.replace_input_with(0, before.inputs[0])


PLANTED = {
    "drop_dequantize": ("unpaired", drop_dequantize, "read by"),
    "dequantize_of_float": ("unpaired", dequantize_of_float, "it reads Relu; it has to read QuantizeLinear"),
    "another_scale": ("other-scale", another_scale, "its scale is not that of"),
    "another_zero_point": ("other-scale", another_zero_point, "its zero point is not that of"),
    "scale_0": ("bad-scale", scale_of(0.0), "its scale holds 0.0; scales are positive"),
    "scale_nan": ("bad-scale", scale_of(float("nan")), "its scale holds NaN or Inf"),
    "scale_for_each_channel": ("per-channel-activation", scale_for_each_channel, "it has 8 scales"),
    "float_input": ("half-float", float_input, "its first input is Relu; quantize both inputs, or neither"),
    "float_weight": ("half-float", float_weight, "its second input is a float constant"),
    "quantizer_before_relu": ("between", quantizer_before_relu, "put it after these"),
    "batch_norm_left": ("batch-norm", batch_norm_left, "ONNX Runtime needs it folded into the weights"),
    "axis_of_the_inputs": ("weight-axis", axis_of_the_inputs, "run along axis 1 of the weight; channels are 0"),
    "too_few_scales": ("weight-axis", too_few_scales, "it has 5 scales for 8 channels"),
    "weight_stored_as_float": ("stored-as-float", weight_stored_as_float, "store the integers"),
    "padding_before_the_layer": ("padding", padding_before_the_layer, "make it the layer's `pads`"),
    "signed_type": ("mixed-types", signed_type, "ONNX Runtime has kernels for one type"),
    "signed_after_relu": ("signed", signed_after_relu, "it is signed, after "),
    "zero_point_after_relu": ("signed", zero_point_after_relu, "it has a zero point of 9, after "),
    "second_quantizer": ("several-quantizers", second_quantizer, "quantizes the same tensor; one has to serve all"),
    "rounded_twice": ("requantized", rounded_twice, "it rounds again what"),
    "float_operand": ("residual", float_operand, "one input is quantized; ONNX Runtime needs both"),
}


def test_what_is_exported_has_no_fault(graph: Callable[[], ir.Model]) -> None:
    report = lint(graph(), ORT)
    assert report.errors == []
    assert (report.quantized, report.layers) == (6, 6)
    assert [one.rule for one in report.notes] == ["saturation"]


@pytest.mark.parametrize(("rule", "plant", "words"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(rule: str, plant: Plant, words: str, graph: Callable[[], ir.Model]) -> None:
    model = graph()
    plant(model.graph)
    found = [one for one in lint(model, ORT).errors if one.rule == rule]
    assert found, "not found"
    assert any(words in one.message for one in found), [str(one) for one in found]
    assert all(one.node for one in found)


def test_at_least_twelve_kinds_are_planted() -> None:
    assert len({rule for rule, _, _ in PLANTED.values()}) >= 12


def test_tensorrt_has_rules_of_its_own(graph: Callable[[], ir.Model]) -> None:
    found = {one.rule: one.message for one in lint(graph(), TENSORRT).errors}
    assert "TensorRT takes signed types and 0 alone" in found["zero-point"]
    assert "TensorRT wants the skip: residual: skip" in found["residual"]


@pytest.mark.parametrize("residual", ["skip", "none"])
def test_a_scheme_for_tensorrt_has_no_fault_there(residual: str) -> None:
    model = qzoo.quantize(network(), "int8", example=digits(1), residual=residual)
    report = lint(to_onnx(qzoo.calibrate(model, [digits()]), digits(1), TENSORRT), TENSORRT)
    assert report.errors == []
    assert [one.rule for one in report.notes] == ["float-operator"] * (2 if residual == "none" else 0)


def test_a_layer_in_float_is_named() -> None:
    model = qzoo.calibrate(qzoo.quantize(network(), "int8_ort", example=digits(1)), [digits()])
    model[-1].input_quantizer.state = model[-1].weight_quantizer.state = "off"
    report = lint(to_onnx(model, digits(1), ORT), ORT)
    assert "float-layer: 7/Gemm: both inputs are float: it runs in float" in [str(one) for one in report.notes]
    assert (report.quantized, report.layers) == (5, 6)
    assert report.errors == []


class Mixes(nn.Module):
    """Multiplies by a parameter in a way that stays an operator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(3, 8, 8)), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.einsum("nti,tio->nto", x, self.weight).mean(1))  # type: ignore[no-any-return]


def test_a_layer_without_an_integer_kernel_counts() -> None:
    x = torch.randn(2, 3, 8)
    report = lint(to_onnx(qzoo.calibrate(qzoo.quantize(Mixes(), "int8", example=x), [x]), x[:1], ORT), ORT)
    assert "float-layer: Einsum: ONNX Runtime has no integer kernel of Einsum: it runs in float" in map(
        str, report.notes
    )
    assert (report.quantized, report.layers) == (1, 2)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*a\.onnx\. `qzoo export NAME --runtime onnxruntime`"):
        lint_file(tmp_path / "a.onnx", ORT)
    (tmp_path / "a.onnx").write_bytes(b"no model at all")
    with pytest.raises(WeightsError, match="can't be read as an ONNX model"):
        lint_file(tmp_path / "a.onnx", ORT)
