"""TensorRT: what it says where it can't run; and where it can, what it computes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from qzoo.errors import UnsupportedError
from qzoo.runtimes import tensorrt
from qzoo.runtimes.registry import runnable_runtime, runtime_named
from tests.runtimes.conftest import digits, shipped

pytestmark = pytest.mark.runtimes

NO_GPU = "TensorRT needs its package and a GPU"


@pytest.mark.parametrize(
    ("package", "reason"),
    [(None, r"there is no package tensorrt \(pip install tensorrt\)"), ("a", "torch sees no GPU")],
)
def test_what_it_lacks_is_told(package: str | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: package)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UnsupportedError, match=f"TensorRT does not run here: {reason}. Runtimes that do: onnxruntime, openv"
    ):
        runnable_runtime("tensorrt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (tensorrt.missing() is None) is (package is not None)


@pytest.mark.skipif(find_spec("tensorrt") is None or not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("name", ["resnet8_digits_int8", "resnet8_digits_fp8"])
def test_an_engine_predicts_what_the_model_predicts(name: str, tmp_path: Path) -> None:
    model, file = shipped(name, "tensorrt")
    (tmp_path / "a.onnx").write_bytes(file)
    x = digits(200)
    with torch.no_grad():
        expected = model(x).numpy()
    found = runtime_named("tensorrt").session(tmp_path / "a.onnx", None, True).run({"images": x.numpy()})["logits"]
    assert found.shape == expected.shape
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.98
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
