"""Modules that are called twice, stand at two paths, or share their weights: valid files with the model's values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime, openvino
from qzoo.runtimes.graph import nodes
from qzoo.runtimes.probed_graph import activation_quantizers, path_of
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = pytest.mark.runtimes

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    """Layers and batch norms of which something is shared."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.a = kind, nn.Linear(6, 6) if kind == "linear" else nn.Conv2d(3, 3, 3, padding=1)
        self.n1, self.n2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        with torch.no_grad():
            # Small beside one large weight, so that no CPU's sums of products overflow.
            self.a.weight.mul_(0.2).flatten(1)[:, 0] = 0.3
            for norm in (self.n1, self.n2):
                norm.running_mean.normal_()  # type: ignore[union-attr]
                norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                norm.weight.uniform_(-1, 1)
        self.b = self.a if kind != "tied" else nn.Conv2d(3, 3, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "linear":
            return self.b(self.a(x).relu()).mean((2, 3))  # type: ignore[no-any-return]
        if self.kind == "one input":
            return self.n1(self.a(x)) + self.n2(self.a(x))  # type: ignore[no-any-return]
        if self.kind == "norm":
            return self.n1(self.b(self.n1(self.a(x)).relu()))  # type: ignore[no-any-return]
        return self.n2(self.b(self.n1(self.a(x)).relu()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["two paths", "tied", "norm", "one input", "linear"])
def test_the_file_is_valid_and_right(kind: str, tmp_path: Path) -> None:
    model = qzoo.calibrate(qzoo.quantize(Shared(kind).eval(), "int8", example=X), [X])
    made = to_onnx(model, X[:1], runtime_named("onnxruntime"))
    ir.save(made, tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert max(Counter(node.name for node in graph.node).values()) == 1
    assert max(Counter(name for node in graph.node for name in node.output).values()) == 1
    # Of one input, the exporter makes one layer, which two batch norms read.
    assert kind == "one input" or not list(nodes(made.graph, "BatchNormalization"))
    probed = activation_quantizers(made.graph)
    assert {*map(path_of, probed)} <= quantizers(model).keys(), "named by paths that the model knows"
    assert ("a.input_quantizer (call 2)" in probed) is (kind in ("two paths", "norm", "linear"))
    onnx.checker.check_model(str(tmp_path / "a.onnx"), full_check=True)
    with torch.no_grad():
        expected = model(X).numpy()
    for session in (onnxruntime.session(tmp_path / "a.onnx", 1, False), openvino.session(tmp_path / "a.onnx", 1)):
        found = session.run({"images": X.numpy()})["logits"]
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    report = qzoo.export(model, tmp_path / "b.onnx", "onnxruntime", images=[X])
    assert report.parity is not None
    assert report.parity.first_diverging is None
    assert [node.node for node in report.parity.nodes] == [*probed]
