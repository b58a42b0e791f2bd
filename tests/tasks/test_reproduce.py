from __future__ import annotations

import os
from pathlib import Path

import pytest

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
