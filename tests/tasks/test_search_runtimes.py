"""Searches whose latency is measured in a runtime."""

from pathlib import Path

import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import ArgumentError

pytestmark = pytest.mark.runtimes


def test_latency_is_limited_by_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path))
    asked = {"target": "onnxruntime", "candidates": ["int8", "float"], "points": 2, "score_images": 16}
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    model = nn.Sequential(*layers).eval()  # of two groups, so that few graphs are timed
    images, labelled = _digits()
    report = qzoo.search(model, images, labelled, latency=10.0, neighbours=2, example=images[0][0], **asked)  # type: ignore[arg-type]
    assert report.latency is not None
    assert report.latency.runtime == report.target == "onnxruntime"
    assert report.solution.latency_ms is not None
    assert report.float_latency_ms is not None
    assert report.rest["latency"] == pytest.approx(report.latency.quantized_ms / report.latency.float_ms)
    (table,) = (tmp_path / "latency").iterdir()
    assert str(table) == report.latency.file
    before = table.stat().st_mtime_ns
    again = qzoo.search(model, images, labelled, latency=5.0, neighbours=0, example=images[0][0], **asked)  # type: ignore[arg-type]
    assert table.stat().st_mtime_ns == before, "the table is used again"
    assert again.solution.cost["latency"] <= 5.0


def test_without_a_runtime_there_is_no_latency() -> None:
    with pytest.raises(ArgumentError) as error:
        qzoo.search("resnet8_digits_int8", latency=0.5)
    assert "The budget latency needs a table that was measured in a runtime." in str(error.value)
    with pytest.raises(ArgumentError, match="for TensorRT give the table of your own"):
        qzoo.search("resnet8_digits_int8", latency=0.5, target="tensorrt")


def _digits() -> tuple[list[object], list[object]]:
    from qzoo.tasks.inputs.calibration_images import calibration_images
    from qzoo.tasks.inputs.images import evaluation_images
    from qzoo.zoo.name_lookup import find

    named = find("resnet8_digits_int8")
    calibration = calibration_images(named.base, named.dataset, named.resolved.calibration, images=32)
    return list(calibration), list(evaluation_images(named.base, named.dataset, images=50))
