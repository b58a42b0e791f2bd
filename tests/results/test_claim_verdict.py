from __future__ import annotations

import pytest

from qzoo.results.claim_verdict import judge
from qzoo.schema.recipe import Claim
from tests.each import for_each

AT = Claim(top1=76.1, tolerance=0.15, source="a published source")
LEAST = Claim(top1_at_least=76.0, tolerance=0.0, source="a published source")
BELOW = Claim(top1_below="int8", source="a published source")
DROP = Claim(drop_at_most=1.9, tolerance=0.1, source="a published source")
OWN = Claim(top1=99.3, tolerance=0.2, own=True, source="our own command")


@for_each(
    ("claims", "top1", "verdict"),
    [
        ([], 50.0, "unpublished"),
        ([AT], 76.25, "pass"),
        ([AT], 75.95, "pass"),
        ([AT], 76.26, "fail"),
        ([AT], 75.94, "fail"),
        ([LEAST], 76.0, "pass"),
        ([LEAST], 75.99, "fail"),
        ([LEAST], 99.0, "pass"),
        ([BELOW], 75.0, "pass"),
        ([BELOW], 76.0, "fail"),
        ([DROP], 75.0, "pass"),
        ([DROP], 74.99, "fail"),
        ([DROP], 78.0, "pass"),
        ([AT, LEAST], 75.97, "fail"),
        ([AT, LEAST], 76.1, "pass"),
        ([OWN], 99.2, "own"),
        ([OWN], 99.0, "fail"),
        ([OWN, Claim(top1=99.3, tolerance=0.2, source="a published source")], 99.3, "pass"),
    ],
)
def test_verdicts(claims: list[Claim], top1: float, verdict: str) -> None:
    assert judge(claims, top1, complete=True, measured={"int8": 76.0, "float": 77.0}) == verdict


@pytest.mark.parametrize("top1", [76.1, 10.0])
def test_fewer_images_are_partial_whatever_they_say(top1: float) -> None:
    assert judge([AT], top1, complete=False, measured={}) == "partial"


def test_a_comparison_with_a_variant_that_was_not_run_says_nothing() -> None:
    assert judge([BELOW], 75.0, complete=True, measured={}) == "partial"
    assert judge([BELOW, AT], 76.1, complete=True, measured={}) == "pass"
    assert judge([BELOW, AT], 70.0, complete=True, measured={}) == "fail"
