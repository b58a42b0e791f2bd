"""Batch norm folded into stored integers: the integers stay, and the outputs up to float rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.calibration.collecting import DeadActivationWarning
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, constant, name_by_module, nodes, producer
from qzoo.runtimes.lint import lint
from qzoo.runtimes.passes.fold_batch_norm import fold_batch_norms
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.runtimes.conftest import digits, network

pytestmark = pytest.mark.runtimes


class Normed(nn.Module):
    """A layer, its batch norm, and optionally another reader of the layer's output."""

    def __init__(self, layer: nn.Module, channels: int, twice: bool = False) -> None:
        super().__init__()
        self.layer, self.norm, self.twice = layer, nn.BatchNorm2d(channels), twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.norm(y) + y if self.twice else self.norm(y)


def normed(layer: nn.Module, channels: int, scheme: str | None = "int8", rules: Any = (), **fields: Any) -> nn.Module:
    model = Normed(layer, channels, **fields).train()
    with torch.no_grad():
        model.norm.weight.uniform_(-2, 2)
        model.norm.bias.uniform_(-1, 1)
        model(digits())
    made = qzoo.quantize(model.eval(), scheme or "int8", example=digits(1), rules=rules)
    return qzoo.calibrate(made, [digits()])


def unfolded(model: nn.Module) -> ir.Model:
    made = to_onnx(model, digits(1), replace(runtime_named("openvino"), folds=False))
    name_by_module(made.graph)
    return made


def run(model: ir.Model, folder: Path) -> np.ndarray[Any, Any]:
    ir.save(model, folder / "a.onnx")
    (logits,) = onnxruntime.session(folder / "a.onnx", 1, False).run({"images": digits().numpy()}).values()
    return logits


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 6, 3), nn.Conv2d(1, 6, 3, bias=False, stride=2, padding=1), nn.ConvTranspose2d(1, 6, 2),
        nn.Conv2d(1, 6, 1, padding_mode="reflect", padding=1),
    ],
    ids=["bias", "stride", "transposed", "reflect"],
)  # fmt: skip
def test_outputs_stay(layer: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = unfolded(normed(layer, 6))
    before = run(model, tmp_path)
    integers = [constant(node.inputs[0]) for node in nodes(model.graph, DEQUANTIZE)]
    integers = [one for one in integers if one is not None]
    assert fold_batch_norms(model.graph) == 1
    assert not list(nodes(model.graph, "BatchNormalization"))
    after = run(model, tmp_path)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    folded = [constant(node.inputs[0]) for node in nodes(model.graph, DEQUANTIZE)]
    folded = [one for one in folded if one is not None]
    assert np.array_equal(np.abs(folded[0].astype(int)), np.abs(integers[0].astype(int))), "no integer is rounded anew"
    assert not np.array_equal(folded[0], integers[0]), "a negative factor turns its channel"


def test_zero_points_of_a_turned_channel_are_counted_from_the_other_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fields = {"bits": 4, "symmetric": False}
    rules = [{"match": {"type": "weighted"}, "weight": fields, "input": {"symmetric": True}}]
    model = normed(nn.Conv2d(1, 6, 3), 6, rules=rules)
    made = unfolded(model)
    before = run(made, tmp_path)
    (stored,) = [node for node in nodes(made.graph, DEQUANTIZE) if constant(node.inputs[0]) is not None]
    integers, zeros = (constant(stored.inputs[place]).astype(int) for place in (0, 2))
    assert fold_batch_norms(made.graph) == 1
    np.testing.assert_allclose(run(made, tmp_path), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    (folded,) = [node for node in nodes(made.graph, DEQUANTIZE) if constant(node.inputs[0]) is not None]
    negative = model.norm.weight.detach().numpy() < 0  # type: ignore[union-attr,operator]
    assert 0 < negative.sum() < 6
    for place, old in ((0, integers), (2, zeros)):
        assert np.array_equal(constant(folded.inputs[place])[negative], 15 - old[negative]), "within 4 bits"
        assert np.array_equal(constant(folded.inputs[place])[~negative], old[~negative])


def test_a_layer_that_others_read_keeps_its_batch_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = unfolded(normed(nn.Conv2d(1, 6, 3), 6, twice=True))
    before = run(model, tmp_path)
    assert fold_batch_norms(model.graph) == 0
    assert np.array_equal(run(model, tmp_path), before)


def test_a_batch_norm_without_a_layer_stays() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)).eval()
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8"), [digits()])
    assert fold_batch_norms(unfolded(quantized).graph) == 0


def test_a_float_layer_folds_too(tmp_path: Path) -> None:
    model = network()
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8"), [digits()])
    made = unfolded(quantized)
    stored = producer(next(nodes(made.graph, "Conv")).inputs[1], DEQUANTIZE)
    assert stored is not None
    weight = constant(stored.inputs[0]) * constant(stored.inputs[1]).reshape(-1, 1, 1, 1)
    value = ir.Value(name="float", const_value=ir.tensor(weight.astype(np.float32), name="float"))
    made.graph.register_initializer(value)
    stored.outputs[0].replace_all_uses_with(value)
    before = run(made, tmp_path)
    assert fold_batch_norms(made.graph) == 5
    np.testing.assert_allclose(run(made, tmp_path), before, rtol=1e-3, atol=0.02 * np.abs(before).max())


def with_the_lowest(bits: int, **weight: Any) -> nn.Module:
    """Two channels of the integers from the lowest to the highest, the second turned by its batch norm.

    The range of symmetric weights is clipped, as percentiles and training clip it.
    """
    conv, half = nn.Conv2d(1, 2, 3, bias=False), 2 ** (bits - 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([-half, -2.0, -1, 0, 1, 2, 3, 4, half - 1]).view(3, 3) / half
    net = nn.Sequential(conv, nn.BatchNorm2d(2)).eval()
    net[1].weight.data[:] = torch.tensor([0.5, -0.5])
    rules = [{"match": {"type": "weighted"}, "weight": {"bits": bits, **weight}, "input": {"bits": bits}}]
    model = qzoo.calibrate(qzoo.quantize(net, "int8", rules=rules), [digits()])
    quantizer = model[0].weight_quantizer
    if quantizer.zero_point is None:
        quantizer.set_amax(torch.full_like(quantizer.amax, (half - 1) / half))
    return model.eval()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_lowest_integer_of_a_turned_channel_is_kept(
    runtime: str, bits: int, symmetric: bool, tmp_path: Path
) -> None:
    model = with_the_lowest(bits, symmetric=symmetric)
    with torch.no_grad():
        right = model(digits()).numpy()
    found = run(to_onnx(model, digits(1), runtime_named(runtime)), tmp_path)
    # A step of the weight, times 0.5 and the images, would be far more.
    np.testing.assert_allclose(found, right, atol=2.0 ** -(bits + 6))


def test_one_that_turns_becomes_unsigned_where_the_runtime_computes_with_zero_points() -> None:
    made = unfolded(with_the_lowest(8))
    assert fold_batch_norms(made.graph) == 1
    stored = producer(next(nodes(made.graph, "Conv")).inputs[1], DEQUANTIZE)
    assert stored is not None
    values, zeros = (constant(stored.inputs[place]) for place in (0, 2))
    integers = [-128, -2, -1, 0, 1, 2, 3, 4, 127]
    assert zeros.tolist() == [128, 127]
    assert values.dtype == np.uint8
    for row, sign in enumerate((1, -1)):
        assert (values[row].astype(int).ravel() - int(zeros[row])).tolist() == [sign * one for one in integers]


def test_elsewhere_its_batch_norm_stays_and_the_layer_runs_on_integers(tmp_path: Path) -> None:
    runtime = runtime_named("openvino")
    made = to_onnx(with_the_lowest(8), digits(1), runtime)
    assert len(list(nodes(made.graph, "BatchNormalization"))) == 1
    assert not lint(made, runtime).errors
    ir.save(made, tmp_path / "a.onnx")
    assert runtime.kernels is not None
    assert runtime.kernels(tmp_path / "a.onnx")["logits"].integer, "batch norm is part of the convolution's kernel"


def test_a_channel_that_batch_norm_takes_away_is_exactly_zero(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[3].bn2.weight[2:] = model[3].bn2.bias[2:] = 0
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8_ort", example=digits(1)), [digits()])
    made = to_onnx(quantized, digits(1), runtime_named("onnxruntime"))
    layer = next(node for node in nodes(made.graph, "Conv") if node.name == "3.conv2/Conv")
    stored = producer(layer.inputs[1], DEQUANTIZE)
    assert stored is not None
    assert not constant(stored.inputs[0])[2:].any()
    assert constant(stored.inputs[0])[:2].any()
    assert (constant(stored.inputs[1]) > 0).all()


def test_a_branch_that_holds_nothing_comes_to_zero(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        nn.init.zeros_(model[3].bn2.weight)
        nn.init.zeros_(model[3].bn2.bias)
    with pytest.warns(DeadActivationWarning):
        quantized = qzoo.calibrate(qzoo.quantize(model, "int8_ort", example=digits(1)), [digits()])
    report = qzoo.export(quantized, tmp_path / "a.onnx", "onnxruntime", images=[digits()])
    assert report.parity is not None
    assert report.parity.first_diverging is None
    assert report.parity.agreement_plain == 100
