from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.schema.rule import LAYER_KINDS, Match, Rule, kinds_named
from tests.each import for_each


def test_one_glob_is_short_for_a_list() -> None:
    short, long = Match.model_validate({"name": "fc"}), Match.model_validate({"name": ["fc"]})
    assert short == long
    assert short.model_dump(exclude_none=True) == {"name": "fc"}
    assert Match.model_validate({"type": ["Conv2d", "Linear"]}).model_dump()["type"] == ["Conv2d", "Linear"]


@for_each(
    ("rule", "message"),
    [
        ({"match": {}, "input": False}, "a match needs one of `name`, `type`, `op`"),
        ({"match": {"name": "fc"}}, "a rule needs one of `weight`, `input`, `output`"),
        ({"match": {"name": "fc"}, "why": "so"}, "a rule needs one of `weight`, `input`, `output`"),
        ({"match": {"name": []}, "input": False}, "at least 1 item"),
        ({"match": {"name": ""}, "input": False}, "at least 1 character"),
        ({"match": {"name": 5}, "input": False}, "valid list"),
        ({"match": {"nmae": "fc"}, "input": False}, "match.nmae"),
        ({"match": {"name": "fc"}, "input": {"per": "channel"}}, "ranges per channel exist for weights only"),
        ({"match": {"name": "fc"}, "output": {"per": "channel"}}, "ranges per channel exist for weights only"),
        ({"input": False}, "Field required"),
        ({"match": {"op": "add"}, "weight": {"bits": 4}}, "leave out `weight`, or match modules without `op`"),
        ({"match": {"op": "add"}, "residual": "skip"}, "leave out `residual`, or match modules without `op`"),
    ],
)
def test_refuses(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate(rule)
    assert message in str(caught.value)


def test_a_kind_of_layer_stands_for_its_classes() -> None:
    convolutions = [f"Conv{transposed}{n}d" for transposed in ("", "Transpose") for n in (1, 2, 3)]
    assert Match.model_validate({"type": "weighted"}).type == [*convolutions, "Linear"]
    pools = [f"{adaptive}AvgPool{n}d" for adaptive in ("", "Adaptive") for n in (1, 2, 3)]
    mixed = Match.model_validate({"type": ["Embedding", "pooling", "AvgPool2d"]})
    assert mixed.type == ["Embedding", *pools]
    assert mixed == Match.model_validate(mixed.model_dump())
    assert kinds_named(mixed.type) == ["pooling", "Embedding"]
    assert kinds_named(pools[1:]) == pools[1:]


def test_kinds_of_layers_have_names_that_are_no_classes_and_share_none() -> None:
    classes = [name for names in LAYER_KINDS.values() for name in names]
    assert len(classes) == len(set(classes))
    assert all(kind.islower() for kind in LAYER_KINDS)
    assert Match.model_validate({"name": "weighted"}).name == ["weighted"]
