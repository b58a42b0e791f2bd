"""Graphs of torch.fx with quantizers at their operators: copied, and written anew."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.models.provenance import provenance
from qzoo.quant.operators.blocks import QuantizedGraph

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


@pytest.fixture
def graph() -> nn.Module:
    torch.manual_seed(0)
    traced = torch.fx.symbolic_trace(nn.Sequential(Block(), Block()).eval())
    return qzoo.calibrate(qzoo.quantize(traced, "int8", residual="skip", example=X), [X])


def test_a_copy_has_the_quantizers_and_its_own_ranges(graph: nn.Module) -> None:
    right = graph(X)
    twin = copy.deepcopy(graph)
    assert isinstance(twin, QuantizedGraph)
    assert torch.equal(twin(X), right)
    twin.residual_quantizer.set_amax(torch.tensor(0.0))  # the skip of the first block is 0 then
    first = getattr(twin, "0").conv(X)
    skip = twin.residual_quantizer_2
    expected = skip(first) + getattr(twin, "1").conv(first)
    assert torch.equal(twin(X), expected)
    assert torch.equal(graph(X), right)
    assert provenance(twin) is not None


def test_a_graph_that_is_written_anew_keeps_them(graph: nn.Module) -> None:
    right = graph(X)
    for one in (graph, copy.deepcopy(graph)):
        one.recompile()
        assert torch.equal(one(X), right)


def test_a_feature_extractor_changes_its_mode() -> None:
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    traced = extraction.create_feature_extractor(nn.Sequential(Block(), Block()).eval(), {"1.add": "logits"}).eval()
    model = qzoo.calibrate(qzoo.quantize(traced, "int8", residual="skip", example=X), [X])
    right = model(X)["logits"]
    model.train()
    model(X)["logits"].sum().backward()
    model.eval()
    assert torch.equal(model(X)["logits"], right)
    assert qzoo.evaluate(copy.deepcopy(Pooled(model)), [X]).images == 2


class Pooled(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)["logits"].mean((2, 3))
