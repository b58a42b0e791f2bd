"""`qzoo finetune` as a person runs it: what is trained under which name, where it lies, and what is refused when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import qzoo
from qzoo.cli.main import app

FEW = ("--eval-images", "100")
SHORT = ("--epochs", "1", "--lr", "0.01", "--batch-size", "128", "--train-images", "256", *FEW)
MINE = """\
version: 1
base: {source: qzoo, architecture: resnet8_digits}
dataset: digits
variants:
  w4a4_qat: {scheme: w4a4, finetune: {epochs: 1, lr: 0.01, batch_size: 128, scales: learned}}
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def finetune(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["finetune", *arguments])


def plain(result: Result) -> str:
    return " ".join(result.output.split())


def test_any_variant_can_be_trained_under_a_name_of_its_own(home: Path) -> None:
    result = finetune("resnet8_digits_w4a8", *SHORT)
    assert result.exit_code == 0, result.output
    folder = home / "runs" / "resnet8_digits_w4a8_tuned"
    address = f"{folder / 'resnet8_digits.yaml'}:w4a8_tuned"
    assert f"Model, curve and report: {folder}" in result.output
    assert f'Load it: qzoo.create("{address}", pretrained=True)' in result.output
    assert "resnet8_digits_w4a8_tuned: top-1 " in result.output
    assert sorted(file.name for file in folder.iterdir()) == [
        "artifacts", "checkpoint.safetensors", "resnet8_digits.yaml", "training.csv", "training.png",
    ]  # fmt: skip
    model = qzoo.create(address, pretrained=True)
    assert not torch.equal(model.conv1.weight, qzoo.create("resnet8_digits_w4a8", pretrained=True).conv1.weight)


def test_a_variant_of_a_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    result = finetune(f"{tmp_path / 'mine.yaml'}:w4a4_qat", *FEW, "-o", str(tmp_path / "run"), "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["name"] == "mine_w4a4_qat"
    assert report["finetune"]["scales"] == {"learn": True, "init": "calibrated"}
    assert report["steps_per_epoch"] == report["images"] // 128
    made = qzoo.create(f"{tmp_path / 'run' / 'mine.yaml'}:w4a4_qat", pretrained=True)
    assert made.conv1.weight_quantizer.spec.bits == 4


def test_saying_what_the_recipe_says_makes_no_other_variant(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    address = f"{tmp_path / 'mine.yaml'}:w4a4_qat"
    assert "mine_w4a4_qat: top-1" in finetune(address, "--lr", "0.01", *FEW).output
    assert "mine_w4a4_qat_tuned: top-1" in finetune(address, "--lr", "0.02", *FEW).output


def test_a_tuned_variant_is_tuned_once() -> None:
    first = finetune("resnet8_digits_w4a8", *SHORT)
    address = first.output.split('qzoo.create("')[1].split('"')[0]
    again = finetune(address, "--lr", "0.02", *FEW)
    assert again.exit_code == 0, again.output
    assert "resnet8_digits_w4a8_tuned: top-1" in again.output


def test_earlier_runs_are_told_of(tmp_path: Path) -> None:
    arguments = ("resnet8_digits_w4a8", *SHORT, "-o", str(tmp_path / "run"))
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    missing = finetune(*arguments, "--resume")
    assert missing.exit_code == 0
    assert f"note: there is no checkpoint {checkpoint}; the run starts at the beginning." in plain(missing)
    again = finetune(*arguments)
    assert f"note: {checkpoint} is of an earlier run; --resume goes on from it, this run replaces it." in plain(again)
    other = finetune(*arguments, "--resume", "--lr", "0.5")
    assert other.exit_code == 2
    assert "finetune.lr" in plain(other)
    assert "another folder with -o, or leave out --resume to start anew." in plain(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet8_digits",), "'resnet8_digits' is a float base; name one of its variants: resnet8_digits_int8, "),
        (("resnet8_digit_w4a8",), "Did you mean 'resnet8_digits_w4a8'?"),
        (
            ("resnet8_digits_w4a8",),
            "resnet8_digits_w4a8 does not say how it is trained.",
        ),
        (("resnet8_digits_w4a8", "--epochs", "1"), "Say at least --epochs and --lr, such as --epochs 1 --lr 1e-4"),
        (("resnet8_digits_w4a8", *SHORT, "--lr", "0"), "lr: Input should be greater than 0 (given: 0.0)."),
        (("resnet8_digits_w4a8", *SHORT, "--set", "shedule=cosine"), "no field 'shedule'. Did you mean 'schedule'?"),
        (
            ("resnet8_digits_w4a8", *SHORT, "--set", "schedule=cosinus"),
            "schedule: Input should be 'constant', 'step' or 'cosine' (given: cosinus).",
        ),
        (("resnet8_digits_w4a8", *SHORT, "--set", "floor=1"), "`floor` goes with `schedule: cosine`"),
    ],
)
def test_a_mistake_is_told_in_words(arguments: tuple[str, ...], message: str) -> None:
    result = finetune(*arguments)
    assert result.exit_code == 2
    assert message in plain(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "257"), "A batch of 257 images is requested, but there are only 256 to train on."),
        (("--set", "precision=float16"), "precision float16 needs a GPU. On the CPU say bfloat16 or float32."),
    ],
)
def test_what_can_not_run_is_refused_before_anything_is_measured(arguments: tuple[Any, ...], message: str) -> None:
    result = finetune("resnet8_digits_w4a8", *SHORT, *arguments)
    assert result.exit_code == 2
    assert message in plain(result)
    assert "evaluating" not in result.output
