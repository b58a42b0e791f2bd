from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import qzoo
from qzoo.commands.reproduce import reproduce, runnable
from qzoo.commands.settings import Settings
from qzoo.errors import UnknownNameError, UnsupportedError
from qzoo.quant.ranges import quantizers
from qzoo.tasks.training_run import Run
from qzoo.zoo.name_lookup import find


def test_digits_match_our_own_figures() -> None:
    report = reproduce("resnet8_digits")
    assert [row.variant for row in report.rows][:2] == ["float", "int8"]
    assert {row.verdict for row in report.rows} == {"own"}
    assert report.complete


def test_fewer_images_are_partial() -> None:
    report = reproduce("resnet8_digits", eval_images=100, only=["int8"])
    assert report.images == 100
    assert {row.verdict for row in report.rows} == {"partial"}


def test_changes_go_on_top_of_settings() -> None:
    report = reproduce("resnet8_digits", Settings(calib_images=64), eval_images=50, only=["int8"])
    assert report.images == 50
    assert report.calibration is not None
    assert report.calibration.images == 64
    with pytest.raises(qzoo.ArgumentError, match=r"has no argument .eval_image.. Did you mean .eval_images."):
        reproduce("resnet8_digits", eval_image=50)


@pytest.mark.parametrize(
    ("name", "stage", "text"),
    [
        ("resnet50_int8_qat", "ptq", r"Not of the stage ptq: int8_qat \(needs training: --stage qat or all\)\."),
        ("resnet50_int8", "qat", r"Not of the stage qat: int8 \(needs no training: --stage ptq or all\)\."),
    ],
)
def test_a_named_variant_of_another_stage_is_refused(name: str, stage: Any, text: str) -> None:
    with pytest.raises(UnsupportedError, match=text):
        reproduce(name, stage=stage)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown stage 'qta'. Did you mean 'qat'"):
        reproduce("resnet8_digits", stage="qta")  # type: ignore[arg-type]


def test_the_other_stage_is_told_of_only_where_training_is_left_out() -> None:
    base = find("resnet8_digits")
    left_out = {"w4a4_qat": "needs training: --stage qat or all", "w2a2_qat": "needs training: --stage qat or all"}
    assert [runnable(base, stage=stage)[1] for stage in ("ptq", "qat", "all")] == [left_out, {}, {}]
    assert [one.variant for one in runnable(base, stage="qat")[0]] == ["w4a4_qat", "w2a2_qat"]


@pytest.mark.slow
def test_training_reaches_our_own_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path))
    report = reproduce("resnet8_digits", only="w4a4_qat", stage="qat", run=Run(folder=tmp_path / "runs"))
    baseline, trained = report.rows
    assert (trained.stage, trained.verdict) == ("qat", "own")
    assert baseline.top1 - trained.top1 <= 0.5
    assert report.training["w4a4_qat"].top1 == trained.top1
    assert json.loads(report.to_json())["training"]["w4a4_qat"]["finetune"]["epochs"] == 8
    model = qzoo.create(f"{tmp_path}/runs/resnet8_digits_w4a4_qat/resnet8_digits.yaml:w4a4_qat", pretrained=True)
    assert (tmp_path / "artifacts" / "resnet8_digits_w4a4_qat.model.safetensors").is_file()
    assert not any(quantizer.learned for quantizer in quantizers(model).values())


@pytest.mark.slow
def test_two_bits_come_within_two_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path))
    baseline, trained = reproduce("resnet8_digits", only="w2a2_qat", stage="all").rows
    assert baseline.top1 - trained.top1 <= 2
    assert trained.verdict == "own"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "variants"), [(20, ["int8", "int8_max", "int8_mse"]), (32, ["int8"]), (44, ["int8"]), (56, ["int8"])]
)
def test_cifar_float_is_as_published_and_int8_within_three_tenths(
    depth: int, variants: list[str], data_root: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", os.fspath(weights_dir))
    report = reproduce(f"resnet{depth}_cifar10", Settings(data=data_root), only=variants)
    rows = {row.variant: row for row in report.rows}
    assert rows["float"].verdict == "pass"
    for variant in variants:
        assert rows["float"].top1 - rows[variant].top1 <= 0.3
