from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from qzoo.report.table import report_table
from qzoo.results.reproduce import CalibrationReport, Report, ReportRow, Verdict
from qzoo.schema.recipe import Claim

CLAIM = Claim(top1=76.1, tolerance=0.15, source="a published source")
LEAST = Claim(top1_at_least=76.0, source="a published source")
AFTER = Claim(top1=74.4, source="a published source")


def row(variant: str, top1: float, verdict: Verdict, claims: tuple[Claim, ...] = (), p: float = 0.7265625) -> ReportRow:
    return ReportRow(
        variant=variant,
        stage="float" if variant == "float" else "ptq",
        method=None,
        top1=top1,
        top5=99.0,
        ci95=(top1 - 1, top1 + 1),
        agreement_with_float=98.5,
        lost=None if variant == "float" else 5,
        gained=None if variant == "float" else 3,
        mcnemar_p=None if variant == "float" else p,
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
    text = shown(row("float", 76.2, "pass", (CLAIM,)), row("int8", 76.0, "fail", (CLAIM, LEAST)))
    assert "resnet50@3 on imagenet-1k val, 50,000 images" in text
    float_line, int8_line, more = (line.split() for line in text.splitlines()[2:5])
    assert float_line == ["float", "76.20", "99.00", "76.1", "±0.15", "pass"]
    assert int8_line == [
        "int8", "76.00", "99.00", "+0.20", "-5", "+3", "p=0.73", "98.50", "76.1", "±0.15", "fail",
    ]  # fmt: skip
    assert more == ["≥", "76"], "a claim a line"


def test_a_method_says_what_ranges_were_made_from_if_not_from_images() -> None:
    quantized = row("int8", 76.0, "pass")
    rows = [
        quantized.model_copy(update={"method": "percentile 99.99", "source": source})
        for source in ("images", "statistics")
    ]
    made = [row("float", 76.2, "pass"), *rows]
    on_images, without = (re.split(r"\s{2,}", line)[1] for line in shown(*made).splitlines()[3:5])
    assert (on_images, without) == ("percentile 99.99", "percentile 99.99, statistics")


def test_a_partial_run_shows_intervals_and_the_published_drop_beside_the_measured() -> None:
    before = Claim(top1=75.1, source="a published source")
    rows = row("float", 83.3, "partial", (before,)), row("int8", 82.5, "partial", (LEAST, AFTER))
    text = shown(*rows, row("w4", 80.0, "unpublished"), complete=False)
    assert text.splitlines()[2].split() == ["variant", "method", "top-1", "95%", "drop", "drop", "flips", "published",
                                            "verdict"]  # fmt: skip
    float_line, int8_line, more, other = (line.split() for line in text.splitlines()[3:7])
    assert float_line == ["float", "83.30", "82.3–84.3", "75.1", "partial"]
    assert int8_line == [
        "int8", "82.50", "81.5–83.5", "+0.80", "+0.70", "-5", "+3", "p=0.73", "≥", "76", "partial",
    ]  # fmt: skip
    assert more == ["74.4"]
    assert other == ["w4", "80.00", "79.0–81.0", "+3.30", "-5", "+3", "p=0.73", "unpublished"]


def test_without_published_drops_there_is_no_column_of_them() -> None:
    heading = shown(row("float", 83.3, "partial", (CLAIM,)), row("w4", 80.0, "unpublished"), complete=False)
    assert heading.splitlines()[1].split().count("drop") == 1


@pytest.mark.parametrize("complete", [True, False])
def test_a_hundred_columns_are_enough(complete: bool) -> None:
    rows = row("float", 76.2, "partial", (CLAIM,)), row("int8", 76.0, "partial", (CLAIM, LEAST))
    table = shown(*rows, complete=complete).split("\n\n")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 100


@pytest.mark.parametrize(("p", "text"), [
    (1.0, "1.00"), (0.0951, "0.10"), (0.0521, "0.052"), (0.0499, "0.050"), (0.001, "0.001"), (9e-4, "<.001"),
])  # fmt: skip
def test_a_small_p_keeps_its_digits(p: float, text: str) -> None:
    assert f"p={text} " in shown(row("float", 76.2, "pass"), row("int8", 76.0, "pass", (), p))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("partial: fewer images than the published protocol; 95%: the confidence interval of", {"complete": False}),
        ("not run: int8_qat (needs training)", {"int8_qat": "needs training"}),
        ("calibrated on 64 images; 2.5 s", {"calibration": CalibrationReport(images=64, sample_sha256="")}),
        (
            "calibrated on 64 synthetic images; 2.5 s",
            {"calibration": CalibrationReport(images=64, sample_sha256="", source="synthetic")},
        ),
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
