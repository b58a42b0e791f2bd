from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.schema.model import described, keys_of
from qzoo.schema.recipe import Recipe
from qzoo.schema.references import dotted
from qzoo.schema.rule import Match
from tests.each import for_each

HEAD: dict[str, Any] = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "imagenet-1k"}


def problems(variant: Any, name: str = "a", **change: Any) -> dict[str, str]:
    data = {**HEAD, "variants": {name: variant}, **change}
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(data)
    found = [described(Recipe, data, dict(problem)) for problem in caught.value.errors()]
    assert len({path for path, _ in found}) == len(found)
    return {dotted(path): text for path, text in found}


@for_each(
    ("variant", "field", "message"),
    [
        ({"inptu": False}, "variants.a.inptu", "unknown key 'inptu'. Did you mean 'input'? Known: calibration,"),
        ({"input": {"bitz": 8}}, "variants.a.input.bitz", "unknown key 'bitz'. Did you mean 'bits'? Known: bits,"),
        ({"residual": {"plaecment": "skip"}}, "variants.a.residual.plaecment", "Did you mean 'placement'?"),
        ({"calibration": {"imgaes": 1}}, "variants.a.calibration.imgaes", "Did you mean 'images'?"),
        (
            {"rules": [{"match": {"nmae": "x"}}]},
            "variants.a.rules.0.match.nmae",
            "Did you mean 'name'? Known: name, op, type.",
        ),
        ({"finetune": {"epochs": 1}}, "variants.a.finetune.lr", "this field is missing."),
        (
            {"published": {"top1": 1}},
            "variants.a.published.source",
            "this field is missing. Who published it and where;",
        ),
        ({"published": [{"top1": 1}]}, "variants.a.published.0.source", "this field is missing. Who published it"),
        ({"input": {"format": "e4m4"}}, "variants.a.input.format", "unknown value 'e4m4'. Did you mean 'e4m3'?"),
        (
            {"input": {"unsigned": "atuo"}},
            "variants.a.input.unsigned",
            "Did you mean 'auto'? Known: auto, false, true.",
        ),
        ({"input": {"bits": "8"}}, "variants.a.input.bits", 'Input should be a valid integer (given: "8")'),
        ({"input": {"bits": 8.5}}, "variants.a.input.bits", "Input should be a valid integer (given: 8.5)"),
        (
            {"input": {"calibrator": {"percentile": 0}}},
            "variants.a.input.calibrator.percentile",
            "greater than 0 (given: 0)",
        ),
        (
            {"input": {"calibrator": "maxx"}},
            "variants.a.input.calibrator",
            "unknown calibrator 'maxx'. Did you mean 'max'?",
        ),
        ({"input": True}, "variants.a.input", "expected fields such as {bits: 8, calibrator: max}, or false for float"),
        (
            {"rules": [{"match": "fc", "input": False}]},
            "variants.a.rules.0.match",
            "some of the keys name, type, op, or {}",
        ),
        (None, "variants.a", "expected a mapping with some of the keys from, description, scheme,"),
        ({"rules": "x" * 500}, "variants.a.rules", "x ..."),
    ],
)
def test_says_which_field_what_is_wrong_and_what_is_accepted(variant: Any, field: str, message: str) -> None:
    found = problems(variant)
    assert message in found[field]
    assert len(found[field]) < 250


def test_a_variant_may_bear_the_name_of_a_field_or_of_a_tag() -> None:
    for name in ("calibration", "rules", "quantizer", "float"):
        assert "Did you mean 'bits'?" in problems({"input": {"bitz": 8}}, name)[f"variants.{name}.input.bitz"]


def test_a_name_is_told_what_a_name_is() -> None:
    assert problems({}, "Int8") == {
        "variants.Int8": "'Int8' is no name: lower-case letters, digits, _ and . are, and a letter or digit comes first"
    }


def test_missing_parts_say_what_they_are() -> None:
    assert problems({}, base={"source": "timm"}) == {
        "base.architecture": "this field is missing. The library's name for the model."
    }


def test_the_keys_are_those_one_writes() -> None:
    assert keys_of(Match) == ["name", "type", "op"]
    assert "from" in keys_of(Recipe.model_fields["variants"].annotation.__args__[1])  # type: ignore[union-attr]
