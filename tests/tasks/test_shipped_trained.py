"""Trained weights that ship give the figures that their recipe claims, and are small."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import qzoo
from qzoo import environment
from qzoo.commands.evaluate import evaluate_named
from qzoo.commands.settings import Settings
from qzoo.results.training import TrainingReport
from qzoo.zoo.name_lookup import find

SHIPPED = sorted(path.name.removesuffix(".model.safetensors") for path in environment.packaged().rglob("*.model.*"))
DIGITS = [name for name in SHIPPED if "digits" in name]


def test_some_ship() -> None:
    assert {"resnet8_digits_w2a2_qat", "resnet20_cifar10_w4a4_lsq"} <= set(SHIPPED)
    assert set(SHIPPED) <= set(qzoo.list_models("*", pretrained=True))


@pytest.mark.parametrize("name", SHIPPED)
def test_their_files_are_small_and_their_reports_of_the_recipe(name: str) -> None:
    files = list(environment.packaged().rglob(f"{name}.*"))
    assert sorted(file.name.removeprefix(f"{name}.") for file in files) == [
        "model.safetensors", "receipt.safetensors", "training.json",
    ]  # fmt: skip
    assert max(file.stat().st_size for file in files) < 500_000
    report = TrainingReport.model_validate_json(next(f for f in files if f.suffix == ".json").read_text())
    zoo_model = find(name)
    claim = zoo_model.resolved.published[0]
    assert report.top1 is not None
    assert round(report.top1, 2) == claim.top1
    assert claim.own
    assert report.finetune == zoo_model.resolved.finetune


@pytest.mark.parametrize("name", DIGITS)
def test_digits_are_as_claimed(name: str) -> None:
    zoo_model = find(name)
    claim = zoo_model.resolved.published[0]
    assert claim.top1 is not None
    assert evaluate_named(zoo_model).top1 == pytest.approx(claim.top1, abs=0.34)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "least"), [("int8_qat", 91.68), ("w4a4_lsq", 91.2), ("w3a3_lsq", 90.0), ("w2a2_lsq", 86.0)]
)  # fmt: skip
def test_cifar_reaches_its_figure(
    variant: str, least: float, data_root: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", os.fspath(weights_dir))
    result = evaluate_named(find(f"resnet20_cifar10_{variant}"), Settings(data=data_root))
    assert result.top1 is not None
    assert result.top1 >= least
