"""Weights of 4 bits in 4 bits: the same values, half the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes
from qzoo.runtimes.passes.stored_weight import store_in_four_bits
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.runtimes.conftest import digits, shipped

pytestmark = pytest.mark.runtimes


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_values_stay_and_the_file_shrinks(runtime: str, tmp_path: Path) -> None:
    model = shipped("resnet8_digits_w4a8", runtime)[0]
    whole = qzoo.export(model, tmp_path / "8.onnx", runtime)
    packed = qzoo.export(model, tmp_path / "4.onnx", runtime, int4=True, images=[digits(64)])
    onnx.checker.check_model(onnx.load(tmp_path / "4.onnx"), full_check=True)
    assert packed.bytes < 0.7 * whole.bytes
    one, other = (ir.load(tmp_path / f"{bits}.onnx").graph for bits in (8, 4))
    pairs = list(zip(nodes(one, DEQUANTIZE), nodes(other, DEQUANTIZE), strict=True))
    narrow = [after.name for _, after in pairs if after.inputs[0].dtype == ir.DataType.INT4]  # type: ignore[union-attr]
    assert len(narrow) == 8
    for before, after in pairs:
        stored = constant(before.inputs[0])
        assert stored is None or np.array_equal(stored, constant(after.inputs[0]).astype(stored.dtype))
    assert packed.parity is not None
    assert packed.parity.agreement_plain == 100
    assert packed.parity.first_diverging is None
    assert [one.rule for one in packed.findings if one.level == "error"] == [
        one.rule for one in whole.findings if one.level == "error"
    ]


def test_an_unsigned_weight_is_uint4() -> None:
    values = ir.Value(name="values", const_value=ir.tensor(np.array([[0, 15], [3, 4]], np.uint8)))
    scale = ir.Value(name="scale", const_value=ir.tensor(np.array(0.5, np.float32)))
    node = ir.Node("", DEQUANTIZE, [values, scale], num_outputs=1)
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[values, scale], opset_imports={"": 21})
    assert store_in_four_bits(graph) == 1
    (kept,) = [value for name, value in graph.initializers.items() if name != "scale"]
    assert kept.dtype == ir.DataType.UINT4


def test_eight_bits_stay_and_who_asked_is_told(tmp_path: Path) -> None:
    model = shipped("resnet8_digits_int8", "tensorrt")[0]
    with pytest.raises(UnsupportedError, match=r"resnet8_digits_int8 has no weights of 4 bits: leave out --int4\."):
        qzoo.export(model, tmp_path / "a.onnx", "tensorrt", int4=True)
    assert not list(tmp_path.iterdir())
    graph = to_onnx(shipped("resnet8_digits_int8", "tensorrt")[0], torch.zeros(1, 1, 8, 8), runtime_named("tensorrt"))
    assert store_in_four_bits(graph.graph) == 0
