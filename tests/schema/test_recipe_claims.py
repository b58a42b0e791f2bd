from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.schema.recipe import Claim

SOURCE = {"source": "somebody, somewhere"}


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ({"top1": 76.1, "tolerance": 0.15}, "76.1 ±0.15"),
        ({"top1": 76}, "76"),
        ({"top1_at_least": 76.4}, "≥ 76.4"),
        ({"top1_below": "int8"}, "< int8"),
    ],
)
def test_a_claim_is_a_few_characters(claim: dict[str, Any], text: str) -> None:
    assert str(Claim.model_validate(claim | SOURCE)) == text


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"top1": 76.1}, "source\n  Field required"),
        ({"top1": 76.1, "source": "me"}, "at least 8 characters"),
        (SOURCE, "a claim needs one of top1, top1_at_least, top1_below, drop_at_most"),
        ({"tolerance": 0.1} | SOURCE, "a claim needs one of top1, top1_at_least, top1_below"),
        ({"top1_below": "int8", "tolerance": 0.1} | SOURCE, "a tolerance goes with a figure"),
        ({"top1": 100.1} | SOURCE, "less than or equal to 100"),
        ({"top1": "76.1"} | SOURCE, "valid number"),
        ({"top1": True} | SOURCE, "valid number"),
        ({"top1": 76.1, "tolerance": -0.1} | SOURCE, "greater than or equal to 0"),
        ({"top_1": 76.1} | SOURCE, "Extra inputs are not permitted"),
    ],
)
def test_refuses(claim: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Claim.model_validate(claim)
    assert message in str(caught.value)
