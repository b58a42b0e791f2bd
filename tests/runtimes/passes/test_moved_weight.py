"""Weights that are moved before they are read: stored as they are read, of the same values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import nodes
from qzoo.runtimes.lint import lint
from qzoo.runtimes.passes.moved_weight import MOVES
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = pytest.mark.runtimes

READ: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "transposed": lambda x, w: F.linear(x, w.T),
    "a slice": lambda x, w: x @ w[:, 2:6],
    "in parts": lambda x, w: torch.cat([F.linear(x, part) for part in w.chunk(2)], -1),
    "one row": lambda x, w: F.linear(x, w[3:4]),
    "in another shape": lambda x, w: x @ w.view(2, 4, 8).flatten(0, 1),
}


class Reads(nn.Module):
    """Reads parts of one parameter, each in its way."""

    def __init__(self) -> None:
        super().__init__()
        # Small beside one large weight, so that no CPU's sums of products overflow.
        self.weights = nn.ParameterList(torch.rand(8, 8) * 0.2 for _ in READ)
        for weight in self.weights:
            weight.data[:, 0] = 1

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([read(x, weight) for read, weight in zip(READ.values(), self.weights, strict=True)], -1)


def test_nothing_stands_between_a_product_and_its_stored_weight(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8)
    model = qzoo.calibrate(qzoo.quantize(Reads().eval(), "int8", example=x), [x])
    made = to_onnx(model, x[:1], runtime_named("onnxruntime"))
    assert not list(nodes(made.graph, *MOVES))
    found = lint(made, runtime_named("onnxruntime"))
    assert (found.quantized, found.layers) == (6, 6)
    ir.save(made, tmp_path / "a.onnx")
    with torch.no_grad():
        expected = model(x).numpy()
    off = np.abs(onnxruntime.session(tmp_path / "a.onnx", 1, False).run({"images": x.numpy()})["logits"] - expected)
    assert off.max() < 1e-5 * np.abs(expected).max()
