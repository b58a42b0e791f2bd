from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from qzoo.report.sensitivity import points, sensitivity_table
from qzoo.results.reproduce import CalibrationReport
from qzoo.results.sensitivity import SensitivityReport

Make = Callable[..., SensitivityReport]


def printed(report: SensitivityReport, top: int | None = None) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        for part in sensitivity_table(report, top):
            console.print(part)
    return capture.get()


def test_every_figure_is_shown(example: Make) -> None:
    text = printed(example())
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("block")}
    assert rows["block.1.conv"] == ["15.0", "dB", "+0.50", "#2", "1", "-0.25"]
    assert rows["block.2.conv"] == ["exact", "+0.50", "#3", "2", "-0.25"]
    assert "net_int8@2 on imagenet-1k val, 400 images" in text
    assert "all quantized: top-1 76.00 in float, 70.00 quantized; SQNR 9.0 dB, 31 flips" in text
    assert "one image is 0.25 of top-1: trust the SQNR" in text
    assert "no ranges were at hand" not in text


def test_what_a_reader_has_to_know_is_said(example: Make) -> None:
    calibration = CalibrationReport(images=512, sample_sha256="0", allow_leak=True, short=True)
    text = printed(example(calibration=calibration), top=2)
    assert "the worst 2 of 3 layers; the rest with --top or --json" in text
    assert "calibrated on 512 images (all there are; the recipe wants more) first" in text
    assert "allow_leak: calibrated on images of the evaluation split" in text
    assert "block.2.conv" not in text


def test_without_labels(example: Make) -> None:
    text = printed(example(labelled=False))
    assert "all quantized: SQNR 9.0 dB, 31 flips" in text
    assert "points" not in text
    assert "#1" not in text


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0, "+0.00"), (-0.0, "+0.00"), (1.234, "+1.23")])
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text
