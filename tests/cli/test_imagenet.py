"""The whole protocol on a part of ImageNet, with worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from qzoo.cli.main import app

RECIPE = """\
version: 1
base: {source: timm, architecture: test_resnet}
dataset: imagenet-1k
calibration: {images: 1000, batch_size: 2}
published: {top1: 75.1, source: "a figure of another model"}
variants:
  int8: {published: {top1: 74.4, source: "a figure of another model"}}
"""
# A job in the background ignores interrupts, and so would its children; a person's shell starts it like this.
LISTEN = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def recipe(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe of timm's smallest network, with random weights, on imagenet-mini."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.r160_in1k.safetensors")
    (tmp_path / "small.yaml").write_text(RECIPE)
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("QZOO_DATA", str(data_root / "imagenet-mini"))
    return str(tmp_path / "small.yaml")


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_part_of_the_set_is_partial_and_compared_image_by_image(recipe: str, tmp_path: Path) -> None:
    few = ["--eval-images", "8", "--calib-images", "4", "--batch-size", "4"]
    result = qzoo("reproduce", recipe, *few, "--json", str(tmp_path / "r.json"))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["dataset"], report["split"], report["images"], report["complete"]) == (
        "imagenet-1k",
        "val",
        8,
        False,
    )
    float_row, int8 = report["rows"]
    assert {row["verdict"] for row in report["rows"]} == {"partial"}
    assert float_row["lost"] is float_row["mcnemar_p"] is None
    assert int8["lost"] - int8["gained"] == round((float_row["top1"] - int8["top1"]) * 8 / 100)
    assert 0 < int8["mcnemar_p"] <= 1
    line = next(line for line in result.stdout.splitlines() if line.startswith("int8"))
    assert "+0.70" in line, "the published drop"
    assert f"-{int8['lost']} +{int8['gained']} p=" in line
    assert f"{int8['ci95'][0]:.1f}–{int8['ci95'][1]:.1f}" in line


def test_workers_change_nothing(recipe: str) -> None:
    facts = [
        json.loads(
            qzoo("evaluate", recipe, "--eval-images", "6", "--batch-size", "2", "--workers", n, "--json", "-").stdout
        )
        for n in ("0", "2")
    ]
    assert all(fact.pop("seconds") >= 0 for fact in facts)
    assert facts[0] == facts[1]


def test_ctrl_c_ends_the_workers_too(recipe: str) -> None:
    command = [sys.executable, "-m", "qzoo", "reproduce", recipe, "--eval-images", "4", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    # On a busy machine lines of what takes long come first, such as loading torch.
    assert any(line.startswith("evaluating float: 4 images, ") for line in iter(process.stderr.readline, ""))
    time.sleep(1)  # the thousand images of the calibration are being decoded
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "Interrupted." in errors
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
