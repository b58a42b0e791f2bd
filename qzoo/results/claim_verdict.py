"""Whether a claim holds: a measured accuracy against what others, or we earlier, said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qzoo.results.reproduce import Verdict
from qzoo.schema.recipe import Claim


def judge(claims: Sequence[Claim], top1: float, complete: bool, measured: Mapping[str, float]) -> Verdict:
    """Returns what the measurement says of the claims.

    Args:
        claims: the recipe's claims on this row.
        top1: measured, in percent.
        complete: whether the images are those of the published protocol; if not, nothing is claimed.
        measured: top-1 of the float model, `float`, and of the variants of this run, for claims that compare with one.

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
    if claim.drop_at_most is not None and measured["float"] - top1 > claim.drop_at_most + claim.tolerance + 1e-9:
        return False
    return claim.top1_below is None or top1 < measured[claim.top1_below]
