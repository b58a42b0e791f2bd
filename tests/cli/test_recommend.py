"""`qzoo recommend`: what is printed, and the exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from qzoo.commands import recommend as gathering
from tests.each import for_each


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "cpu_flags", lambda: ["avx2"])


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["recommend", *arguments])


def test_it_names_variant_command_reasons_sources_and_what_is_not_known() -> None:
    result = qzoo("resnet20_cifar10", "--target", "onnxruntime", "--max-drop", "0.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("resnet20_cifar10 for ONNX Runtime on ")
    assert lines[1] == "ship  resnet20_cifar10_int8"
    command = "qzoo export resnet20_cifar10_int8 --data PATH --runtime onnxruntime --reduce-range"
    assert lines[2] == f"type  {command}"
    assert any(line.startswith("why   this CPU has no VNNI: ") for line in lines)
    assert any(line.startswith("drop ") and "+0.05 points" in line and "receipt" in line for line in lines)
    unknown = [line for line in lines if line.startswith("not known  ")]
    assert unknown[-1].endswith("qzoo benchmark resnet20_cifar10_int8 --data PATH --runtime onnxruntime --reduce-range")
    assert len([line for line in lines if line.startswith("left out  ")]) < 8


def test_exit_code_1_where_nothing_meets_the_budget() -> None:
    result = qzoo("resnet8_digits_w2a2_opt", "-t", "onnxruntime", "--max-drop", "0.1")
    assert result.exit_code == 1
    assert "ship  nothing that is known" in result.stdout
    assert "type  qzoo search resnet8_digits_w2a2_opt --target onnxruntime --max-drop 0.1" in result.stdout


def test_json() -> None:
    found = json.loads(qzoo("resnet8_digits", "-t", "tensorrt", "--json").stdout)
    assert (found["schema"], found["variant"], found["target"]) == (1, "resnet8_digits_int8", "tensorrt")
    assert all(one["source"] for one in found["figures"])


@for_each(
    ("arguments", "text"),
    [
        (["resnet8_digits", "-t", "onnxruntme"], "Unknown runtime 'onnxruntme'. Did you mean 'onnxruntime'?"),
        (["resnet8_digit", "-t", "onnxruntime"], "Unknown model 'resnet8_digit'. Did you mean 'resnet8_digits'?"),
    ],
)
def test_mistakes(arguments: list[str], text: str) -> None:
    result = qzoo(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
