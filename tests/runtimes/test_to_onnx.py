"""Exported graphs: one pair for each quantizer, of exactly its scale, and nothing of the machine."""

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
from qzoo.errors import NotCalibratedError, UnsupportedError
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, constant, nodes, producer
from qzoo.runtimes.probed_graph import activation_quantizers
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.runtimes.traced import OPSET
from tests.runtimes.conftest import digits, network, shipped

pytestmark = pytest.mark.runtimes

NAMES = ["resnet8_digits_int8", "resnet8_digits_w4a4", "resnet8_digits_fp8", "resnet8_digits_w2a2_qat"]


def exported(name: str, runtime: str = "onnxruntime") -> tuple[nn.Module, ir.Model]:
    model, file = shipped(name, runtime)
    return model, ir.from_proto(onnx.load_from_string(file))


@pytest.mark.parametrize(
    ("name", "runtime"), [*((name, "onnxruntime") for name in NAMES), (NAMES[0], "tensorrt"), (NAMES[0], "openvino")]
)
def test_each_quantizer_is_one_pair_of_its_scale(name: str, runtime: str) -> None:
    model, made = exported(name, runtime)
    graph = made.graph
    found = activation_quantizers(graph)
    expected = {path: one for path, one in quantizers(model).items() if not path.endswith("weight_quantizer")}
    assert found.keys() == expected.keys()
    for path, node in found.items():
        (pair,) = [use.node for use in node.outputs[0].uses()]
        assert pair.op_type == DEQUANTIZE
        scale = constant(node.inputs[1])
        assert np.array_equal(scale, constant(pair.inputs[1]))
        assert scale == (expected[path].amax / expected[path].grid.bound).numpy()
    layers = list(nodes(graph, "Conv", "Gemm"))
    assert len(layers) == 8
    assert all(constant(producer(node.inputs[1], DEQUANTIZE).inputs[0]) is not None for node in layers)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_logits_without_optimizations_are_the_model_s(name: str, tmp_path: Path) -> None:
    (model, made), x = exported(name), digits(200)
    ir.save(made, tmp_path / "a.onnx")
    session = onnxruntime.session(tmp_path / "a.onnx", 1, False)
    with torch.no_grad():
        expected = model(x).numpy()
    found = session.run({"images": x.numpy()})["logits"]
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.995
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert np.array_equal(session.run({"images": x[:1].numpy()})["logits"].argmax(1), expected[:1].argmax(1)), (
        "batches of any size"
    )


def test_the_file_is_plain_onnx_and_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    ir.save(exported(NAMES[0], "openvino")[1], tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", OPSET)}
    assert not model.functions
    assert str(Path(qzoo.__file__).parent.parent).encode() not in (tmp_path / "a.onnx").read_bytes()
    assert [one.name for one in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    names = Counter(node.name for node in model.graph.node)
    assert max(names.values()) == 1


def test_batch_norm_is_folded_where_the_runtime_wants_it() -> None:
    left = {name: len(list(nodes(exported(NAMES[0], name)[1].graph, "BatchNormalization"))) for name in RUNTIMES}
    assert left == {"tensorrt": 7, "onnxruntime": 0, "openvino": 0}


def test_a_block_s_input_has_one_quantizer(fitting: nn.Module) -> None:
    graph = to_onnx(fitting, digits(1), runtime_named("onnxruntime")).graph
    tensors = Counter(node.inputs[0] for node in nodes(graph, QUANTIZE))
    assert max(tensors.values()) == 1
    assert len(quantizers(fitting)) - 6 > len(tensors), "some quantizers of the model read one tensor"


def test_a_static_graph_takes_one_image_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    model, dynamic = exported(NAMES[0])
    made = to_onnx(model, digits(1), runtime_named("onnxruntime"), dynamic="none")
    assert capfd.readouterr() == ("", "")
    assert list(made.graph.inputs[0].shape or ()) == [1, 1, 8, 8]
    assert not isinstance((dynamic.graph.inputs[0].shape or ())[0], int)


def test_what_can_not_be_exported_is_refused() -> None:
    runtime = runtime_named("onnxruntime")
    with pytest.raises(NotCalibratedError, match=r"Can't export for ONNX Runtime: 17 quantizers have no range \(conv1"):
        to_onnx(qzoo.create(NAMES[0], pretrained="float"), digits(1), runtime)
    with pytest.raises(NotCalibratedError, match="This model has no quantizers"):
        to_onnx(network(), digits(1), runtime)


class Branches(nn.Module):
    """Decides by what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def test_what_torch_can_not_trace_is_told_in_a_line() -> None:
    model = qzoo.calibrate(qzoo.quantize(Branches(), "int8"), [digits()])
    with pytest.raises(UnsupportedError, match=r"^torch\.export can't trace this \w*Branches: .+"):
        to_onnx(model, digits(1), runtime_named("onnxruntime"))
