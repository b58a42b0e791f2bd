"""The report of a run: measured beside published. The JSON that `qzoo reproduce --json` writes."""

from __future__ import annotations

from typing import Any, Literal

from qzoo.schema.model import StrictModel
from qzoo.schema.published import Claim

Verdict = Literal["pass", "fail", "own", "partial", "unpublished"]


class ReportRow(StrictModel):
    """One measured model. Accuracies and agreement are in percent."""

    variant: str
    stage: Literal["float", "ptq", "qat"]
    method: str | None
    top1: float
    top5: float
    ci95: tuple[float, float]
    agreement_with_float: float
    published: list[Claim]
    verdict: Verdict
    seconds: float

    def published_text(self) -> str:
        """Returns the claims in a few characters."""
        return "; ".join(map(str, self.published))


class CalibrationReport(StrictModel):
    """Which images the ranges came from."""

    images: int
    sample_sha256: str
    allow_leak: bool = False
    """Some of them are of the evaluation split."""
    short: bool = False
    """The recipe wants more images than the split holds."""


class Report(StrictModel):
    """One run of a recipe."""

    name: str
    version: int
    dataset: str
    split: str
    images: int
    complete: bool
    rows: list[ReportRow]
    excluded: dict[str, str]
    """Variants that were not run, and why."""
    calibration: CalibrationReport | None
    recipe_sha256: str
    environment: dict[str, str | int]

    def to_json(self) -> str:
        """Returns the JSON, with `published` as one object, as a list where there are several claims, or null."""
        import json

        content: dict[str, Any] = {"schema": 1, **self.model_dump(mode="json")}
        for row, model in zip(content["rows"], self.rows, strict=True):
            claims = [claim.model_dump(mode="json", exclude_none=True) for claim in model.published]
            row["published"] = None if not claims else claims[0] if len(claims) == 1 else claims
        return json.dumps(content, indent=1)
