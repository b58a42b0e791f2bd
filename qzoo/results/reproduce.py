"""The report of `reproduce`: measured beside claimed, with the verdict, as scripts read it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.results.training import TrainingReport
from qzoo.schema.calibration import Source
from qzoo.schema.model import StrictModel
from qzoo.schema.recipe import Claim

Verdict = Literal["pass", "fail", "own", "partial", "unpublished"]


class ReportRow(Readable, StrictModel):
    """One measured model. Accuracies and agreement are in percent."""

    variant: str
    stage: Literal["float", "ptq", "qat"]
    method: str | None
    top1: float
    top5: float
    ci95: tuple[float, float]
    agreement_with_float: float
    lost: int | None = None
    """Images that float gets right and this model wrong."""
    gained: int | None = None
    """Images that float gets wrong and this model right."""
    mcnemar_p: float | None = None
    """The p-value of McNemar's exact test of these two, two-sided."""
    published: list[Claim]
    verdict: Verdict
    seconds: float
    source: Source | None = None
    """What the ranges of its activations were made from; null for the float model."""

    def published_text(self) -> str:
        """Returns the claims in a few characters, one a line."""
        return "\n".join(map(str, self.published))


class CalibrationReport(Readable, StrictModel):
    """Which images the ranges came from."""

    images: int
    sample_sha256: str
    allow_leak: bool = False
    """Some of them are of the evaluation split."""
    short: bool = False
    """The recipe wants more images than the split holds."""
    source: Source = "images"
    """Made without data, where no variant was calibrated on images of the dataset."""


def _figures(claims: list[Claim]) -> dict[str, float]:
    """Returns the published top-1 by source; lower bounds only where a source gives nothing better."""
    exact = [claim for claim in claims if claim.top1 is not None]
    bounds = [claim for claim in claims if claim.top1 is None]
    return {claim.source: claim.figure for claim in [*reversed(bounds), *reversed(exact)] if claim.figure is not None}


class Report(Readable, StrictModel):
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
    training: dict[str, TrainingReport] = Field(default_factory=dict)
    """The reports of the variants that were trained."""
    recipe_sha256: str
    environment: dict[str, str | int]

    @property
    def partial(self) -> bool:
        """Whether some row could not be held against what was published."""
        return not self.complete or any(row.verdict == "partial" for row in self.rows)

    def drop(self, row: ReportRow) -> float:
        """Returns how far a row's top-1 lies below that of float, in points."""
        return self.rows[0].top1 - row.top1

    def published_drop(self, row: ReportRow) -> float | None:
        """Returns the same of the published figures, both of one source if possible; None where a claim is missing."""
        drops = [claim.drop_at_most for claim in row.published if claim.drop_at_most is not None]
        if drops:
            return drops[0]
        before, after = _figures(self.rows[0].published), _figures(row.published)
        if not before or not after:
            return None
        source = next((source for source in after if source in before), None)
        if source is not None:
            return before[source] - after[source]
        return list(before.values())[-1] - list(after.values())[-1]

    def to_json(self) -> str:
        """Returns the JSON, with `published` as one object, as a list where there are several claims, or null."""
        import json

        content: dict[str, Any] = {"schema": 1, **self.model_dump(mode="json")}
        for row, model in zip(content["rows"], self.rows, strict=True):
            claims = [claim.model_dump(mode="json", exclude_none=True) for claim in model.published]
            row["published"] = None if not claims else claims[0] if len(claims) == 1 else claims
        return json.dumps(content, indent=1)
