"""ONNX files in what is published: written, checked, told of in the card, and gone when not asked for again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qzoo
from qzoo.errors import RecipeError, UnknownNameError
from qzoo.results.export import Exports, Parity
from qzoo.runtimes.lint import lint_file
from qzoo.runtimes.registry import runtime_named

pytestmark = pytest.mark.runtimes

NAME = "resnet8_digits_int8"


def made(folder: Path, *onnx: str, name: str = NAME) -> set[str]:
    qzoo.push(name, f"me/{name}", onnx=onnx, folder=folder, dry_run=True)
    return {path.name for path in folder.iterdir()}


def test_each_runtime_gets_its_file_and_the_card_tells(tmp_path: Path) -> None:
    files = made(tmp_path, "openvino", "tensorrt")
    assert {"openvino.onnx", "tensorrt.onnx", "exports.json"} <= files
    assert lint_file(tmp_path / "openvino.onnx", runtime_named("openvino")).errors == []
    reports = Exports.model_validate_json((tmp_path / "exports.json").read_text()).exports
    assert [(one.runtime, one.file) for one in reports] == [
        ("openvino", "openvino.onnx"),
        ("tensorrt", "tensorrt.onnx"),
    ]
    assert all(one.parity is not None and one.parity.images == 32 for one in reports)
    assert str(tmp_path) not in (tmp_path / "exports.json").read_text()
    card = (tmp_path / "README.md").read_text()
    assert "## In a runtime" in card
    assert "| `openvino.onnx` | 8 of 8 | 32 | 100.0 | 1 |" in card
    assert "For tensorrt, ONNX Runtime without optimizations stood in." in card
    assert "its speed is not that of integer arithmetic, which the ONNX files are for." in card
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {"openvino.onnx", "exports.json"} <= manifest["files"].keys()
    assert not {"openvino.onnx", "tensorrt.onnx", "exports.json"} & made(tmp_path), "not asked for again"
    assert "In a runtime" not in (tmp_path / "README.md").read_text()


def test_a_runtime_that_the_variant_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"resnet8_digits_int8 does not fit ONNX Runtime \(signed: layer1\.conv1"):
        made(tmp_path, "onnxruntime")
    assert not list(tmp_path.glob("*.onnx"))
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("seven", [None, 0.0])
def test_what_a_runtime_computes_otherwise_is_refused_unless_this_cpu_overflows(
    seven: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*arguments: object, **options: object) -> Parity:
        return Parity(
            images=1, own_runtime=True, agreement_plain=100, agreement=100, logit_difference_plain=0,
            logit_difference=2, largest_logit=9, logit_limit=0.5, seven_bit_difference=seven, nodes=[],
        )  # fmt: skip

    monkeypatch.setattr("qzoo.runtimes.parity.measure_parity", measured)
    if seven is None:
        with pytest.raises(RecipeError, match="does not fit OpenVINO: OpenVINO's logits are off by"):
            made(tmp_path, "openvino")
        assert not list(tmp_path.glob("*.onnx"))
    else:
        assert "openvino.onnx" in made(tmp_path, "openvino")


def test_an_unknown_runtime_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Unknown runtime 'onnx'"):
        made(tmp_path, "onnx")
    assert not list(tmp_path.iterdir())
