"""Weights of matrix products, stored as the product reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes, producer
from qzoo.runtimes.lint import lint
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx

pytestmark = pytest.mark.runtimes


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


def test_the_logits_are_the_model_s(tokens: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(32, 3, 2, 4, generator=torch.Generator().manual_seed(1))
    ir.save(to_onnx(tokens, x[:1], runtime_named("onnxruntime")), tmp_path / "a.onnx")
    with torch.no_grad():
        expected = tokens(x).numpy()
    for optimized in (False, True):
        found = onnxruntime.session(tmp_path / "a.onnx", 1, optimized).run(x.numpy())
        assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
