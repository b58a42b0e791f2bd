"""`qzoo.export` as a script calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import DataError, NotCalibratedError, UnknownNameError, UnsupportedError
from tests.runtimes.conftest import digits, network

pytestmark = pytest.mark.runtimes


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(network(), "int8_ort", example=digits(1)), [digits()])


def test_a_model_of_one_s_own_takes_the_size_of_the_images(model: nn.Module, tmp_path: Path) -> None:
    images = ((x, torch.zeros(len(x)).long()) for x in digits(40).split(16))
    report = qzoo.export(model, tmp_path / "new folder" / "a.onnx", "openvino", images=images)
    assert report.parity is not None
    assert report.parity.images == 40
    assert report.name == "int8_ort"
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.onnx"]


def test_a_model_in_another_type_is_exported_from_a_copy(tmp_path: Path) -> None:
    half = qzoo.calibrate(qzoo.quantize(network(), "int8"), [digits()]).to(torch.bfloat16)
    report = qzoo.export(half, tmp_path / "a.onnx", "tensorrt", images=digits(4).bfloat16())
    assert half[0].weight.dtype == torch.bfloat16
    assert report.parity is not None
    assert report.parity.agreement_plain == 100


def test_what_can_not_be_exported_is_told(model: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    with pytest.raises(DataError, match=r"There is no image to compare on\. Give at least one, or leave out images=\."):
        qzoo.export(model, file, images=[])
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'ort'"):
        qzoo.export(model, file, "ort")
    with pytest.raises(NotCalibratedError, match="13 quantizers have no range"):
        qzoo.export(qzoo.quantize(network(), "int8"), file)
    with pytest.raises(UnsupportedError, match="give images to adapt it on, adapt_on="):
        qzoo.export(model, file, reduce_range=True)
    assert not file.exists()
