"""A model is added by `qzoo new` and one edited YAML file, as the README shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file
from typer.testing import CliRunner

from qzoo.cli.main import app

cli = CliRunner()
MINE = '{from: int8_residual, rules: [{match: {name: "conv1.*"}, weight: false, input: false, why: "stem in float"}]}'


def qzoo(*arguments: str) -> str:
    result = cli.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_name_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    # Random weights: what is tested is the way, not the figure.
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.r160_in1k.safetensors")
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    qzoo("new", "timm/test_resnet")
    recipe = Path("test_resnet.yaml")
    recipe.write_text(recipe.read_text().replace("variants:\n", f"variants:\n  mine: {MINE}\n"))
    assert "8 variants" in qzoo("validate", "test_resnet.yaml")
    explained = qzoo("explain", "test_resnet.yaml:mine")
    assert explained.count("residual_quantizer") == 4
    assert "float: conv1" in explained
    sizes = ["--calib-images", "8", "--eval-images", "12", "--workers", "0"]
    only = ["--only", "int8", "--only", "mine"]
    output = qzoo(
        "reproduce", "test_resnet.yaml", "--data", str(data_root / "imagenet-mini"), *sizes, *only, "--json", "out.json"
    )
    assert "partial" in output
    report = json.loads(Path("out.json").read_text())
    assert [row["variant"] for row in report["rows"]] == ["float", "int8", "mine"]
    assert report["images"] == 12
    qzoo(
        "calibrate",
        "test_resnet.yaml:mine",
        "--data",
        str(data_root / "imagenet-mini"),
        "--calib-images",
        "8",
        "--workers",
        "0",
    )
    with pytest.warns(UserWarning, match="was calibrated on 8 images, the recipe says 1,024"):
        assert "top-1" in qzoo(
            "evaluate",
            "test_resnet.yaml:mine",
            "--data",
            str(data_root / "imagenet-mini"),
            "--eval-images",
            "4",
            "--workers",
            "0",
        )
