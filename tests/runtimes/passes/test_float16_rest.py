"""Graphs whose rest is float16: types, images and logits, and how close they come."""

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
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, nodes
from qzoo.runtimes.lint import lint
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.runtimes.conftest import digits, network, shipped

pytestmark = pytest.mark.runtimes

TENSORRT = runtime_named("tensorrt")


@pytest.mark.parametrize("name", ["resnet8_digits_int8", "resnet8_digits_fp8"])
def test_all_but_images_and_logits_is_float16(name: str, tmp_path: Path) -> None:
    model = shipped(name, "tensorrt")[0]
    report = qzoo.export(model, tmp_path / "a.onnx", "tensorrt", rest="fp16", images=[digits(64)])
    graph = ir.load(tmp_path / "a.onnx").graph
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    ends = [*graph.inputs, *graph.outputs]
    assert [(value.name, value.dtype) for value in ends] == [
        ("images", ir.DataType.FLOAT),
        ("logits", ir.DataType.FLOAT),
    ]
    assert len(list(nodes(graph, "Cast"))) == 2
    assert not [value for value in graph.initializers.values() if value.dtype == ir.DataType.FLOAT]
    stored = ir.DataType.INT8 if "int8" in name else ir.DataType.FLOAT8E4M3FN
    assert {value.dtype for node in nodes(graph, QUANTIZE) for value in node.outputs} == {stored}
    assert report.parity is not None
    assert report.parity.agreement_plain >= 98
    assert report.parity.first_diverging is None
    assert report.bytes < 0.4 * report.float_bytes


def test_scales_are_those_of_float32_rounded() -> None:
    model = shipped("resnet8_digits_int8", "tensorrt")[0]
    whole, half = (to_onnx(model, digits(1), TENSORRT, rest=rest).graph for rest in ("fp32", "fp16"))
    for one, other in zip(nodes(whole, QUANTIZE, DEQUANTIZE), nodes(half, QUANTIZE, DEQUANTIZE), strict=True):
        assert one.name == other.name
        assert np.array_equal(constant(one.inputs[1]).astype(np.float16), constant(other.inputs[1]))


def test_a_channel_that_holds_nothing_gives_no_nan_and_is_told_of(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[2] = 0
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8"), [digits()])
    report = qzoo.export(quantized, tmp_path / "a.onnx", "tensorrt", example=digits(1), rest="fp16", images=[digits(8)])
    assert [finding.message for finding in report.findings if finding.rule == "half-scale"] == [
        "1 of 8 scales are below 3e-6, where float16 loses 1 %"
    ]
    assert report.parity is not None
    assert np.isfinite(report.parity.logit_difference_plain)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_of_cpus_are_refused(runtime: str) -> None:
    model: nn.Module = shipped("resnet8_digits_int8", "tensorrt")[0]
    with pytest.raises(UnsupportedError, match=r"on CPUs gains nothing by float16: leave out --rest fp16\."):
        to_onnx(model, digits(1), runtime_named(runtime), rest="fp16")


def test_in_float32_there_is_nothing_of_it() -> None:
    graph = to_onnx(shipped("resnet8_digits_int8", "tensorrt")[0], digits(1), TENSORRT)
    assert [finding for finding in lint(graph, TENSORRT).findings if finding.rule == "half-scale"] == []
    assert not list(nodes(graph.graph, "Cast"))
