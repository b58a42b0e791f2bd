"""The report of `reproduce`: measured beside claimed, with the verdict, as scripts read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.results.training import TrainingReport
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
    """Of McNemar's exact test of these two, two-sided."""
    published: list[Claim]
    verdict: Verdict
    seconds: float

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
    """Of the variants that were trained."""
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


def judge(claims: Sequence[Claim], top1: float, complete: bool, measured: Mapping[str, float]) -> Verdict:
    """Returns what the measurement says of the claims.

    Args:
        claims: the recipe's claims on this row.
        top1: measured, in percent.
        complete: whether the images are those of the published protocol; if not, nothing is claimed.
        measured: top-1 of the other variants of this run, for claims that compare with one.

    Returns:
        `unpublished` without claims; `partial` if not complete or not checked; `fail` if a claim does not hold;
        `own` if all claims are our own earlier runs; else `pass`.
    """
    if not claims:
        return "unpublished"
    if not complete:
        return "partial"
    # A comparison with a variant that was not run (--only) says nothing either way.
    checked = [claim for claim in claims if claim.top1_below is None or claim.top1_below in measured]
    if not checked:
        return "partial"
    if not all(_holds(claim, top1, measured) for claim in checked):
        return "fail"
    return "own" if all(claim.own for claim in checked) else "pass"


def _holds(claim: Claim, top1: float, measured: Mapping[str, float]) -> bool:
    if claim.top1 is not None and abs(top1 - claim.top1) > claim.tolerance + 1e-9:
        return False
    if claim.top1_at_least is not None and top1 < claim.top1_at_least - claim.tolerance - 1e-9:
        return False
    return claim.top1_below is None or top1 < measured[claim.top1_below]
