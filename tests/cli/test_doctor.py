"""`qzoo doctor`: what there is, and what to choose."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.commands import doctor


def test_it_shows_processor_and_packages() -> None:
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json", "-"]).stdout)
    assert found["onnxruntime"] == version("onnxruntime")
    assert found["torch"] == version("torch")
    assert found["processor"]
    printed = CliRunner().invoke(app, ["doctor"]).output
    assert all(line in " ".join(printed.split()) for line in (found["processor"], found["advice"][0]))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["avx2", "avx512_vnni"], "variants of scheme int8_ort, in ONNX Runtime or OpenVINO"),
        (["i8mm"], "variants of scheme int8_ort"),
        (["avx2"], "may overflow 16 bits in integer kernels"),
        ([], "may overflow 16 bits"),
        ([], "whether it has VNNI can't be told here"),
    ],
)
def test_advice_goes_by_the_processor(flags: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cpu_flags", lambda: flags)
    assert words in next(doctor.advice())


def test_missing_packages_are_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert "pip install 'qzoo[export]'" in list(doctor.advice())[-1]
    assert doctor.facts()["openvino"] == "not installed"
