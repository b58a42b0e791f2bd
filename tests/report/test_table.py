from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from qzoo.report.table import report_table
from qzoo.schema.published import Claim
from qzoo.schema.report import CalibrationReport, Report, ReportRow, Verdict

CLAIM = Claim(top1=76.1, tolerance=0.15, source="a published source")


def row(variant: str, top1: float, verdict: Verdict, claims: tuple[Claim, ...] = ()) -> ReportRow:
    return ReportRow(
        variant=variant,
        stage="float" if variant == "float" else "ptq",
        method=None,
        top1=top1,
        top5=99.0,
        ci95=(top1 - 1, top1 + 1),
        agreement_with_float=98.5,
        published=list(claims),
        verdict=verdict,
        seconds=1.25,
    )


def shown(
    *rows: ReportRow, complete: bool = True, calibration: CalibrationReport | None = None, **left_out: str
) -> str:
    report = Report(
        name="resnet50",
        version=3,
        dataset="imagenet-1k",
        split="val",
        images=50_000,
        complete=complete,
        rows=list(rows),
        excluded=left_out,
        calibration=calibration,
        recipe_sha256="0" * 64,
        environment={},
    )
    out = StringIO()
    for part in report_table(report):
        Console(file=out, width=150).print(part)
    return out.getvalue()


def test_shows_drop_agreement_and_verdict() -> None:
    text = shown(row("float", 76.2, "pass", (CLAIM,)), row("int8", 76.0, "fail", (CLAIM, CLAIM)))
    assert "resnet50@3 on imagenet-1k val, 50,000 images" in text
    float_line, int8_line = (line.split() for line in text.splitlines()[2:4])
    assert float_line == ["float", "76.20", "99.00", "76.1", "±0.15", "pass", "1.2"]
    assert int8_line == ["int8", "76.00", "99.00", "+0.20", "98.50", "76.1", "±0.15;", "76.1", "±0.15", "fail", "1.2"]


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("partial: fewer images than the published protocol; top-1 is known to about ±1.0", {"complete": False}),
        ("not run: int8_qat (needs training)", {"int8_qat": "needs training"}),
        ("calibrated on 64 images;", {"calibration": CalibrationReport(images=64, sample_sha256="")}),
        (
            "all there are; the recipe wants more",
            {"calibration": CalibrationReport(images=64, sample_sha256="", short=True)},
        ),
        (
            "allow_leak: calibrated on images of the evaluation",
            {"calibration": CalibrationReport(images=64, sample_sha256="", allow_leak=True)},
        ),
    ],
)
def test_remarks(text: str, more: dict[str, object]) -> None:
    rows = row("float", 76.2, "pass", (CLAIM,)), row("int8", 76.0, "pass", (CLAIM,))
    assert text in shown(*rows, **more)  # type: ignore[arg-type]
    assert text not in shown(*rows)
