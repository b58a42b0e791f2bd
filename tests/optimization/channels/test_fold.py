"""Batch norm folded by value: the function stays, batch norm multiplies by one and knows what it knew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.optimization.channels.fold import fold_batch_norm
from qzoo.quant.channel_factors import ChannelFactors
from tests.each import for_each
from tests.optimization.channels.networks import (
    CHANNELS,
    assert_made_of,
    assert_same_function,
    chain,
    everything,
    images,
    norm,
    quantized,
)

pytestmark = pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")


def folded(model: nn.Module, x: Tensor) -> tuple[nn.Module, ChannelFactors]:
    made, record = quantized(model, x), ChannelFactors()
    fold_batch_norm(made, record, [x])
    return made, record


def test_the_function_stays_through_every_kind_of_layer() -> None:
    model, x = everything(), images()
    made, record = folded(model, x)
    assert len(record.weights) == 5
    assert_same_function(model, made, x)
    assert_made_of(model, made, record)


def test_weights_bias_and_statistics_are_those_of_the_formula() -> None:
    model = chain()
    conv, old = model[0], model[1]
    made, _ = folded(model, images())
    mean, var, gamma, beta = (
        value.detach().numpy().astype(np.float64) for value in (old.running_mean, old.running_var, old.weight, old.bias)
    )
    f = gamma / np.sqrt(var + old.eps)
    for found, wanted in (
        (made[0].weight, conv.weight.detach().numpy() * f[:, None, None, None]),
        (made[0].bias, conv.bias.detach().numpy() * f),
        (made[1].running_mean, mean * f),
        (made[1].running_var, var * f**2),
        (made[1].weight, np.sqrt(var * f**2 + old.eps)),
        (made[1].bias, beta),
    ):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6)


def test_batch_norm_multiplies_by_one() -> None:
    made, _ = folded(chain(), images())
    multiplies_by = made[1].weight.detach() / (made[1].running_var + made[1].eps).sqrt()
    assert float((multiplies_by - 1).abs().max()) <= 2e-7


def test_training_goes_on_as_before() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), norm(CHANNELS)), images()
    made, _ = folded(model.eval(), x)
    with torch.no_grad():
        # But for `eps`, which counts for more where the weight is small.
        torch.testing.assert_close(made.train()(x), model.train()(x), rtol=0.02, atol=0.01)


def test_a_channel_that_batch_norm_takes_away_is_zero() -> None:
    model, x = chain(), images()
    model[1].weight.data[2] = 0
    made, _ = folded(model, x)
    assert not made[0].weight[2].any()
    assert_same_function(model, made, x)


def test_one_without_a_weight_multiplies_by_one_too() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)).eval(), images()
    model[1].running_var.uniform_(0.1, 3)
    made, _ = folded(model, x)
    assert_same_function(model, made, x)
    assert float(((made[1].running_var + made[1].eps) - 1).abs().max()) <= 1e-7


class Shared(nn.Module):
    """A convolution that batch norm and somebody else read, or that is called twice."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.bn, self.way = nn.Conv2d(3, 3, 1), norm(3), way

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.conv(x)
        if self.way == "twice":
            return self.bn(self.conv(y))
        return (self.bn(y), y) if self.way == "output" else self.bn(y) + y


@for_each("way", ["added", "output", "twice"])
def test_what_others_read_keeps_its_batch_norm(way: str) -> None:
    model = Shared(way).eval()
    record = ChannelFactors()
    [change] = fold_batch_norm(quantized(model, images()), record, [images()])
    assert change.path == "bn"
    assert change.note.startswith("stays: no convolution or linear layer has it as its only reader")
    assert not record.weights


def test_bfloat16_stays_near() -> None:
    model, x = chain(nn.ReLU()).bfloat16(), images().bfloat16()
    made, _ = folded(model, x)
    assert_same_function(model, made, x, tolerance=0.05)


@pytest.mark.runtimes
def test_one_scale_for_a_weight_stays_one_in_an_exported_graph() -> None:
    from qzoo.runtimes.graph import DEQUANTIZE, constant, nodes, producer
    from qzoo.runtimes.registry import runtime_named
    from qzoo.runtimes.to_onnx import to_onnx

    x, rules = images(), [{"match": {"type": "weighted"}, "weight": {"bits": 8, "per": "tensor"}}]
    made = qzoo.quantize(chain(nn.ReLU()), "int8", rules=rules, example=x)
    fold_batch_norm(made, ChannelFactors(), [x])
    graph = to_onnx(qzoo.calibrate(made, [x]), x[:1], runtime_named("onnxruntime")).graph
    assert not list(nodes(graph, "BatchNormalization"))
    stored = [producer(layer.inputs[1], DEQUANTIZE) for layer in nodes(graph, "Conv")]
    assert [constant(one.inputs[1]).size for one in stored if one is not None] == [1, 1]


def test_the_first_batch_is_the_example() -> None:
    # No likely size: this model takes two channels of sequences.
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU()).eval()
    x = torch.randn(3, 2, 9)
    made = qzoo.calibrate(qzoo.quantize(model, "int8", example=x), [x])
    (change,) = fold_batch_norm(made, ChannelFactors(), [x])
    assert change.path == "0 -> 1"
