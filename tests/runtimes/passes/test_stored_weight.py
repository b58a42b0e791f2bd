"""Which weights belong to which output channel, held against torch's own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from qzoo.runtimes.passes.stored_weight import StoredWeight, along_channels, by_channel, dequantized, stored_weight

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
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    scale = np.linspace(0.1, 1, len(by_channel(layer, values))).astype(np.float32)
    first = ir.Node("", "DequantizeLinear", [ir.Value(name="w")])
    old = StoredWeight(first, values, scale)
    layer.replace_input_with(1, dequantized(graph, layer, old, values, scale, "new"))
    found = stored_weight(layer)
    assert found is not None
    assert np.array_equal(found.values, values)
    assert np.array_equal(found.scale, scale)
    assert found.name.startswith("w.new")
