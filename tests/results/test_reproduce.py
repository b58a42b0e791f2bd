from __future__ import annotations

import json
from typing import Any

import pytest

from qzoo.results.reproduce import CalibrationReport, Report, ReportRow
from qzoo.schema.recipe import Claim

CLAIMS = [
    Claim(top1=91.73, tolerance=0.05, source="somebody, somewhere"),
    Claim(top1_at_least=91.0, source="somebody, somewhere"),
]


def report(claims: list[Claim]) -> Report:
    row = ReportRow(
        variant="float",
        stage="float",
        method=None,
        top1=91.73,
        top5=99.7,
        ci95=(91.2, 92.3),
        agreement_with_float=100.0,
        published=claims,
        verdict="pass",
        seconds=9.1,
    )
    return Report(
        name="net",
        version=1,
        dataset="cifar10",
        split="test",
        images=10000,
        complete=True,
        rows=[row],
        excluded={},
        calibration=CalibrationReport(images=1024, sample_sha256="ab"),
        recipe_sha256="cd",
        environment={"torch": "2", "threads": 2},
    )


def test_the_json_is_the_one_of_the_documentation() -> None:
    content: dict[str, Any] = json.loads(report(CLAIMS[:1]).to_json())
    assert list(content)[:8] == ["schema", "name", "version", "dataset", "split", "images", "complete", "rows"]
    assert content["schema"] == 1
    assert list(content["rows"][0]) == [
        "variant", "stage", "method", "top1", "top5", "ci95", "agreement_with_float", "lost", "gained",
        "mcnemar_p", "published", "verdict", "seconds", "source",
    ]  # fmt: skip
    assert content["rows"][0]["ci95"] == [91.2, 92.3]
    assert content["calibration"]["images"] == 1024


@pytest.mark.parametrize(
    ("claims", "published", "text"),
    [
        ([], None, ""),
        (CLAIMS[:1], {"top1": 91.73, "tolerance": 0.05, "source": "somebody, somewhere", "own": False}, "91.73 ±0.05"),
        (CLAIMS, list, "91.73 ±0.05\n≥ 91"),
    ],
)
def test_claims_are_null_one_object_or_a_list(claims: list[Claim], published: Any, text: str) -> None:
    made = report(claims)
    got = json.loads(made.to_json())["rows"][0]["published"]
    assert isinstance(got, list) if published is list else got == published
    assert made.rows[0].published_text() == text


def test_the_float_row_has_no_flips() -> None:
    row = json.loads(report(CLAIMS).to_json())["rows"][0]
    assert row["lost"] is row["gained"] is row["mcnemar_p"] is None


@pytest.mark.parametrize(("claims", "drop"), [
    ([Claim(top1=91.53, source="somebody, somewhere")], 0.2),
    ([CLAIMS[1], Claim(top1=92.0, source="somebody, somewhere")], -0.27),
    ([CLAIMS[1]], 0.73),
    ([], None),
])  # fmt: skip
def test_the_published_drop_is_that_of_two_figures(claims: list[Claim], drop: float | None) -> None:
    made, quantized = report(CLAIMS), report(claims).rows[0].model_copy(update={"top1": 91.0})
    assert made.drop(quantized) == pytest.approx(0.73)
    assert made.published_drop(quantized) == (None if drop is None else pytest.approx(drop))
    assert report([]).published_drop(quantized) is None


def test_partial_is_a_run_whose_images_or_calibration_are_not_as_published() -> None:
    made = report(CLAIMS)
    assert not made.partial
    assert made.model_copy(update={"complete": False}).partial
    assert made.model_copy(update={"rows": [made.rows[0].model_copy(update={"verdict": "partial"})]}).partial
