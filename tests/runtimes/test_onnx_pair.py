"""What a script's own `torch.onnx.export` makes of quantizers, by both exporters, run in ONNX Runtime."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from qzoo.compat.pytorch_quantization import enable_onnx_export
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.errors import NotCalibratedError, UnsupportedError
from qzoo.runtimes import onnx_pair
from tests.compat.conftest import scripted_digits, scripted_resnet18  # noqa: F401
from tests.runtimes.conftest import digits

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Constant folding - Only steps=1:UserWarning"),
]

X = 2 * torch.randn(16, 3, 6, generator=torch.Generator().manual_seed(0))


def export(model: nn.Module, x: Tensor, path: Path, dynamo: bool, opset: int = 18) -> onnx.ModelProto:
    with enable_onnx_export(), torch.no_grad():
        torch.onnx.export(
            model.eval(), (x,), str(path), dynamo=dynamo, opset_version=opset, input_names=["input"], verbose=False
        )
    made = onnx.load(path)
    onnx.checker.check_model(made)
    return made


def run(path: Path, x: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


def pairs(model: onnx.ModelProto) -> tuple[list[Any], list[Any]]:
    nodes = list(model.graph.node)
    return [n for n in nodes if n.op_type == "QuantizeLinear"], [n for n in nodes if n.op_type == "DequantizeLinear"]


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize(
    "said",
    [
        {"amax": 1.5},
        {"amax": 1.5, "narrow_range": True},
        {"amax": 1.5, "num_bits": 4},
        {"amax": 1.5, "unsigned": True},
        {"amax": 1.5, "unsigned": True, "num_bits": 3},
        {"axis": 1, "amax": [[[1.0], [0.5], [0.0]]]},
        {"axis": 1, "amax": [[[1.0], [0.5], [2.0]]], "num_bits": 5},
        {"amax": 1.5, "learn_amax": True},
        {"amax": 1.5, "scale_amax": 0.5},
    ],
    ids=str,
)
def test_the_graph_computes_what_the_quantizer_does(said: dict[str, Any], dynamo: bool, tmp_path: Path) -> None:
    quantizer = quant_nn.TensorQuantizer(QuantDescriptor(**said))
    x = X.abs() if said.get("unsigned") else X
    made = export(quantizer, x, tmp_path / "a.onnx", dynamo)
    quantized, dequantized = pairs(made)
    assert (len(quantized), len(dequantized)) == (1, 1)
    ours, theirs = quantizer(x).detach(), run(tmp_path / "a.onnx", x)
    step = np.max(said["amax"]) / quantizer.maxbound
    # x / scale and x * (bound / amax) differ by an ulp: at a tie they are a step apart
    assert (ours - theirs).abs().max() <= step * 1.001
    assert ((ours - theirs).abs() > 1e-5).float().mean() < 0.01


@pytest.mark.parametrize("dynamo", [True, False])
def test_the_scale_is_a_constant_of_the_graph(dynamo: bool, tmp_path: Path) -> None:
    layer = quant_nn.QuantConv2d(3, 4, 3)
    layer.input_quantizer.amax = 2.54
    layer.weight_quantizer.amax = (np.arange(4, dtype=np.float32) + 1).reshape(4, 1, 1, 1)
    made = export(layer, torch.randn(1, 3, 8, 8), tmp_path / "a.onnx", dynamo)
    constants = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    scales = {constants[node.input[1]].shape: constants[node.input[1]] for node in pairs(made)[0]}
    assert float(scales[()]) == np.float32(2.54) / 127
    np.testing.assert_array_equal(scales[4,], (np.arange(4, dtype=np.float32) + 1) / 127)
    assert all(constants[node.input[2]].dtype == np.int8 for node in pairs(made)[0])
    assert {n.op_type for n in made.graph.node} <= {
        "QuantizeLinear",
        "DequantizeLinear",
        "Conv",
        "Constant",
        "Identity",
    }


@pytest.mark.parametrize("said", [{"axis": 1, "amax": [[[1.0], [0.5], [0.0]]]}, {"amax": 0.0}], ids=str)
def test_a_range_that_holds_nothing_has_a_scale_that_biases_fit(said: dict[str, Any], tmp_path: Path) -> None:
    made = export(quant_nn.TensorQuantizer(QuantDescriptor(**said)), X, tmp_path / "a.onnx", dynamo=False)
    (quantized,), _ = pairs(made)
    constants = {node.output[0]: node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"}
    scale = numpy_helper.to_array(constants[quantized.input[1]]).reshape(-1)
    right = [2.0**-10 if amax == 0 else amax / 127 for amax in np.reshape(said["amax"], -1)]
    np.testing.assert_allclose(scale, right, rtol=1e-6)
    found = run(tmp_path / "a.onnx", X)
    assert not (found[:, 2] if "axis" in said else found).any()


def test_fp8(tmp_path: Path) -> None:
    quantizer = quant_nn.TensorQuantizer(QuantDescriptor(num_bits=(4, 3), amax=1.5))
    made = export(quantizer, X, tmp_path / "a.onnx", True, 21)
    zero_point = next(one for one in made.graph.initializer if one.name == pairs(made)[0][0].input[2])
    assert zero_point.data_type == onnx.TensorProto.FLOAT8E4M3FN
    torch.testing.assert_close(run(tmp_path / "a.onnx", X), quantizer(X))


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_real_model_predicts_the_same(scripted_digits: nn.Module, dynamo: bool, tmp_path: Path) -> None:  # noqa: F811
    x = digits(256)
    export(scripted_digits, x, tmp_path / "a.onnx", dynamo)
    theirs = run(tmp_path / "a.onnx", x)
    with torch.no_grad():
        ours = scripted_digits(x)
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() >= 0.995
    assert (ours - theirs).abs().median() < 0.01 * ours.abs().max()


@pytest.mark.parametrize("dynamo", [True, False])
def test_what_is_not_calibrated_is_refused(dynamo: bool, tmp_path: Path) -> None:
    model = quant_nn.TensorQuantizer().eval()
    with pytest.raises(Exception, match="Quantizer has not been calibrated") as told:
        torch.onnx.export(model, (X,), str(tmp_path / "a.onnx"), dynamo=dynamo, verbose=False)
    assert isinstance(_first_cause(told.value), NotCalibratedError)
    with enable_onnx_export(), pytest.raises(NotCalibratedError):
        quant_nn.TensorQuantizer()(X)


def _first_cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _first_cause(error.__cause__)


def test_a_second_try_of_the_exporter_leaves_no_quantizer_out(tmp_path: Path) -> None:
    """When tracing without Dynamo fails, the exporter tries with it, which knows nothing of an export."""

    class NeedsDynamo(quant_nn.QuantConv2d):
        def forward(self, input: Tensor) -> Tensor:
            if not torch.compiler.is_dynamo_compiling():
                raise RuntimeError("by Dynamo alone")
            return super().forward(input)

    layer = NeedsDynamo(3, 4, 3)
    layer.input_quantizer.amax = layer.weight_quantizer.amax = 2.0
    path = tmp_path / "a.onnx"
    with contextlib.suppress(torch.onnx.OnnxExporterError):  # better none than one without quantizers
        torch.onnx.export(layer.eval(), (torch.randn(1, 3, 8, 8),), str(path), dynamo=True, verbose=False)
    assert not path.exists() or len(pairs(onnx.load(path))[0]) == 2


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("dtype", [torch.half, torch.double])
def test_other_dtypes_are_cast_around_the_pair(dtype: torch.dtype, dynamo: bool, tmp_path: Path) -> None:
    layer = quant_nn.QuantConv2d(3, 4, 3)
    layer.input_quantizer.amax = layer.weight_quantizer.amax = 2.0
    path = tmp_path / "a.onnx"
    export(layer.to(dtype), torch.randn(1, 3, 8, 8).to(dtype), path, dynamo, 19)
    onnx.checker.check_model(str(path), full_check=True)


@pytest.mark.parametrize("dynamo", [True, False])
def test_older_scripts_export_before_they_calibrate(
    dynamo: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To see which quantizers a concatenation joins; `use_fb_fake_quant` says so."""
    monkeypatch.setattr(quant_nn.TensorQuantizer, "use_fb_fake_quant", True)
    path = tmp_path / "a.onnx"
    layer = quant_nn.QuantConv2d(3, 4, 3).eval()
    torch.onnx.export(layer, (torch.randn(1, 3, 8, 8),), str(path), dynamo=dynamo, verbose=False)
    assert len(pairs(onnx.load(path))[0]) == 2


@pytest.mark.parametrize("dynamo", [True, False])
def test_ranges_of_fewer_dimensions_are_along_the_last_ones(dynamo: bool, tmp_path: Path) -> None:
    quantizer = quant_nn.TensorQuantizer(QuantDescriptor(amax=np.array([1.0, 2.0, 0.5, 3.0])))
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    export(quantizer, x, tmp_path / "a.onnx", dynamo)
    torch.testing.assert_close(run(tmp_path / "a.onnx", x), quantizer(x))


def test_ranges_along_two_axes_have_no_operator(tmp_path: Path) -> None:
    quantizer = quant_nn.TensorQuantizer(QuantDescriptor(axis=(0, 1), amax=np.ones((16, 3, 1))))
    for dynamo in (True, False):
        with pytest.raises(Exception, match="ONNX does not support multi-axis quantization"):
            export(quantizer, X, tmp_path / "a.onnx", dynamo)


def test_more_bits_than_onnx_stores(tmp_path: Path) -> None:
    quantizer = quant_nn.TensorQuantizer(QuantDescriptor(num_bits=20, amax=1.0))
    with pytest.raises(UnsupportedError, match="ONNX stores quantized values of at most 16 bits, not 20"):
        export(quantizer, X, tmp_path / "a.onnx", False)
    twelve = quant_nn.TensorQuantizer(QuantDescriptor(num_bits=12, amax=1.0))
    export(twelve, X, tmp_path / "b.onnx", True, 21)
    torch.testing.assert_close(run(tmp_path / "b.onnx", X), twelve(X), atol=1 / 2047, rtol=0)


@pytest.mark.parametrize(
    ("private", "dynamo"), [("_GET_STATE", False), ("_SET_STATE", False), ("_FLAGS", False), ("_FLAGS", True)]
)
@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning")
def test_without_a_private_name_of_torch_the_graph_computes_the_same(
    private: str, dynamo: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quant_nn.TensorQuantizer(QuantDescriptor(amax=1.5))
    export(model, X, tmp_path / "a.onnx", dynamo)
    monkeypatch.setattr(onnx_pair, private, None)
    export(model, X, tmp_path / "b.onnx", dynamo)
    assert torch.equal(run(tmp_path / "a.onnx", X), run(tmp_path / "b.onnx", X))
