"""Models that give several tensors: each is an output of the file, under its name, with the model's values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import DataError, UnsupportedError
from qzoo.quant.outputs import named_tensors
from qzoo.runtimes import onnxruntime

pytestmark = pytest.mark.runtimes

X = 0.3 * torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@dataclass
class Result:
    logits: Tensor
    hidden: Any = None


class Heads(nn.Module):
    """Two layers, and an output of some kind made of both."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head, self.kind = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), kind

    def forward(self, x: Tensor) -> Any:
        y = self.stem(x)
        z = self.head(y.relu())
        made = {
            "segmentation": {"out": z, "aux": y},
            "tuple": (z.mean((2, 3)), [y, (x, y)], self.stem.bias),
            "dataclass": Result(z.mean((2, 3)), (y,)),
            "taken names": {"images": z, "stem.bias": y, "logits": z.mean((2, 3))},
            "a value each": z.mean((1, 2, 3)),
            "a number": (z, 3),
        }
        return made[self.kind]


def calibrated(kind: str) -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(Heads(kind).eval(), "int8", example=X), [X])


NAMES = {
    "segmentation": ["out", "aux"],
    "tuple": ["output_0", "output_1.0", "output_1.1.0", "output_1.1.1", "output_2"],
    "dataclass": ["logits", "hidden.0"],
    "taken names": ["images_2", "stem.bias_2", "logits"],
    "a value each": ["logits"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_each_tensor_is_an_output(kind: str, tmp_path: Path) -> None:
    model = calibrated(kind)
    report = qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", images=[X])
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    assert [one.name for one in session.get_outputs()] == NAMES[kind]
    with torch.no_grad():
        expected = named_tensors(model(X))
    for found, right in zip(session.run(None, {"images": X.numpy()}), expected.values(), strict=True):
        np.testing.assert_allclose(found, right.detach().numpy(), atol=1e-5)
    assert report.parity is not None
    assert report.parity.agreement_plain == 100
    assert report.parity.logit_difference_plain < 1e-5


def test_in_float16_outputs_keep_names_and_float32(tmp_path: Path) -> None:
    qzoo.export(calibrated("segmentation"), tmp_path / "a.onnx", "tensorrt", rest="fp16")
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    assert [(one.name, one.type) for one in session.get_outputs()] == [
        ("out", "tensor(float)"), ("aux", "tensor(float)"),
    ]  # fmt: skip


def test_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"^The model gives a value of type int, in 1; qzoo takes a tensor"):
        qzoo.export(calibrated("a number"), tmp_path / "a.onnx", "onnxruntime", images=[X])


class Constants(nn.Module):
    """Has a constant that is called `logits`, as an output may be."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.kind, self.logits = nn.Conv2d(3, 4, 1), kind, nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Any:
        y = self.head(x) * self.logits
        made = {
            "computed": {"boxes": x[:, :2], "logits": y},
            "the constant itself": {"map": y, "logits": self.logits},
            "alone": y,
            "no name": {"": y, "x": x},
        }
        return made[self.kind]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("computed", ["boxes", "logits"]),
        ("the constant itself", ["map", "logits"]),
        ("alone", ["logits"]),
        ("no name", ["output_0", "x"]),
    ],
)
def test_the_output_that_is_judged_by_keeps_its_name_and_each_has_one(
    kind: str, names: list[str], tmp_path: Path
) -> None:
    model = qzoo.calibrate(qzoo.quantize(Constants(kind).eval(), "int8", example=X), [X])
    report = qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", images=[X])
    session = onnxruntime.load(tmp_path / "a.onnx", optimized=False)
    assert [one.name for one in session.get_outputs()] == names
    with torch.no_grad():
        expected = named_tensors(model(X))
    for found, right in zip(session.run(None, {"images": X.numpy()}), expected.values(), strict=True):
        np.testing.assert_allclose(found, right.detach().numpy(), atol=1e-5)
    assert report.parity is not None
    assert report.parity.logit_difference_plain < 1e-5


def test_evaluation_takes_the_logits_or_tells_what_is_needed() -> None:
    labels = torch.zeros(len(X), dtype=torch.long)
    assert qzoo.evaluate(calibrated("dataclass"), [(X, labels)]).images == 4
    with pytest.raises(
        DataError, match=r"gives 5 tensors \(output_0 \(4, 5\), .*none is called logits\. Say which they"
    ):
        qzoo.evaluate(calibrated("tuple"), [(X, labels)])
    with pytest.raises(DataError, match="gives 2 tensors"):
        qzoo.sensitivity(calibrated("segmentation"), [(X, labels)])


@pytest.mark.parametrize(("logits", "channels"), [(None, 5), ("out", 5), ("aux", 4)])
def test_the_output_that_is_asked_for_is_compared(logits: str | None, channels: int, tmp_path: Path) -> None:
    model = calibrated("segmentation")
    report = qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", images=[X], logits=logits)
    with torch.no_grad():
        largest = next(one.abs().max() for one in model(X).values() if one.shape[1] == channels)
    assert report.parity is not None
    assert report.parity.largest_logit == pytest.approx(float(largest))
    assert report.parity.agreement_plain == 100
    with pytest.raises(
        DataError, match=r"gives 2 tensors \(out \(1, 5, 6, 6\), aux .*; none is called head\. Known: a"
    ):
        qzoo.export(model, tmp_path / "a.onnx", "onnxruntime", images=[X], logits="head")
