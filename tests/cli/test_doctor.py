"""`qzoo doctor`: what there is, and what to choose."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.commands import doctor, recommend
from qzoo.runtimes.registry import runtime_named


def test_it_shows_processor_and_packages() -> None:
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json", "-"]).stdout)
    assert found["onnxruntime"] == version("onnxruntime")
    assert found["torch"] == version("torch")
    assert found["processor"]
    printed = CliRunner().invoke(app, ["doctor"]).output
    assert all(line in " ".join(printed.split()) for line in (found["processor"], found["advice"][0]))


@pytest.mark.parametrize(
    ("flags", "words", "command"),
    [
        (["avx2", "avx512_vnni"], "Sums of products have 32 bits on this CPU", "--runtime onnxruntime."),
        (["i8mm"], "Sums of products have 32 bits on this CPU", "--runtime onnxruntime."),
        (["avx2"], "This CPU has no VNNI: ONNX Runtime may add", "--runtime onnxruntime --reduce-range."),
        ([], "This CPU may have no VNNI, which can't be told", "--runtime onnxruntime --reduce-range."),
    ],
)
def test_it_ends_with_the_advice_of_recommend(
    flags: list[str], words: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommend, "cpu_flags", lambda: flags)
    onnxruntime = next(line for line in doctor.advice() if line.startswith("ONNX Runtime: "))
    assert "variants of scheme int8_ort" in onnxruntime
    assert words in onnxruntime
    assert f"qzoo export NAME {command}" in onnxruntime
    assert [*doctor.advice()][-1] == "Which variant of a model: qzoo recommend NAME --target RUNTIME."


def test_a_gpu_is_told_of_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor.torch.cuda, "get_device_name", lambda: "a GPU")
    for capability, family in (((8, 0), "int8_residual: "), ((8, 9), "int8_residual or fp8: ")):
        monkeypatch.setattr(doctor.torch.cuda, "get_device_capability", lambda found=capability: found)
        assert next(doctor.advice()).startswith(
            f"{runtime_named('tensorrt').title}: {family}qzoo export NAME --runtime tensorrt."
        )


def test_missing_packages_are_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert "pip install 'qzoo[export]'" in list(doctor.advice())[-2]
    assert doctor.facts()["openvino"] == "not installed"
