from __future__ import annotations

import os
from pathlib import Path

import pytest

from qzoo.errors import UnsupportedError
from qzoo.tasks.reproduce import reproduce
from qzoo.tasks.settings import Settings


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
    with pytest.raises(TypeError, match="eval_image"):
        reproduce("resnet8_digits", eval_image=50)


def test_a_named_variant_that_can_not_be_made_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"int8_qat \(needs training\). `qzoo reproduce resnet50` runs the rest"):
        reproduce("resnet50_int8_qat")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_cifar_float_is_as_published_and_int8_within_three_tenths(
    depth: int, data_root: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", os.fspath(weights_dir))
    report = reproduce(f"resnet{depth}_cifar10", Settings(data=data_root), only=["int8", "int8_max", "int8_mse"])
    rows = {row.variant: row for row in report.rows}
    assert rows["float"].verdict == "pass"
    for variant in ("int8", "int8_max", "int8_mse"):
        assert rows["float"].top1 - rows[variant].top1 <= 0.3
