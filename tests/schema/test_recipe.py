from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.errors import RecipeError
from qzoo.schema.calibration import CalibrationPatch, CalibrationSpec
from qzoo.schema.reading.loading import parse_recipe
from qzoo.schema.recipe import Recipe, Scheme, Variant
from tests.each import for_each

PACKAGE = {"name": "some-weights", "file": "x.pth", "sha256": "0676ba61"}
PACKAGED = {"source": "timm", "architecture": "x", "package": PACKAGE}
HEAD = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "imagenet-1k"}


def recipe(**variants: Any) -> Recipe:
    return Recipe.model_validate({**HEAD, "variants": variants})


def test_what_a_recipe_leaves_out() -> None:
    made = recipe(int8={})
    assert (made.version, made.scheme, made.published) == (1, "int8", [])
    assert made.calibration == CalibrationSpec(split="train", images=1024, seed=0, transform="eval", binning="aligned")


def test_the_chain_is_oldest_first() -> None:
    made = recipe(a={}, b={"from": "a"}, c={"from": "b"})
    assert made.chain("c") == ["a", "b", "c"]
    assert made.chain("a") == ["a"]


@pytest.mark.parametrize(
    ("residual", "same_as"),
    [
        ("skip", {"placement": "skip"}),
        ("both", {"placement": "both"}),
        ("none", {"placement": "none"}),
        (False, {"placement": "none"}),
    ],
)
def test_residual_has_short_forms(residual: Any, same_as: dict[str, str]) -> None:
    short, long = recipe(a={"residual": residual}), recipe(a={"residual": same_as})
    assert short == long
    assert short.variants["a"].residual is not None
    assert short.variants["a"].residual.placement == same_as["placement"]


def test_one_claim_is_short_for_a_list() -> None:
    claim = {"top1": 76.1, "source": "somebody, somewhere"}
    assert recipe(a={"published": claim}) == recipe(a={"published": [claim]})


def test_a_calibration_patch_has_the_fields_of_the_spec_and_says_none() -> None:
    assert set(CalibrationPatch.model_fields) == set(CalibrationSpec.model_fields)
    assert CalibrationPatch().model_dump(exclude_none=True) == {}


@for_each(
    ("variant", "message"),
    [
        ({"residual": "skp"}, "unknown placement 'skp'. Did you mean 'skip'? Known: both, none, skip."),
        ({"residual": True}, "expected skip, both, none (or false), or fields such as {placement: skip, bits: 8}"),
        ({"residual": 8}, "expected skip, both, none (or false)"),
        ({"residual": {"placement": "none", "bits": 4}}, "`placement: none` leaves residual additions in float"),
        ({"residual": {"placement": "skip", "per": "channel"}}, "ranges per channel exist for weights only"),
        ({"residual": {"placement": "skip", "format": "e4m3", "narrow": True}}, "leave out `narrow`"),
        ({"input": {"per": "channel"}}, "ranges per channel exist for weights only"),
        ({"output": {"per": "channel"}}, "ranges per channel exist for weights only"),
        ({"from": "b"}, "variants.a.from: unknown variant 'b'. Known: a."),
        ({"from": "a"}, "variants.a.from: the chain a <- a never ends"),
        ({"published": {"top1_below": "int7", "source": "somebody"}}, "unknown variant 'int7'. Known: a."),
        ({"published": {"top1_below": "a", "source": "somebody"}}, "'a' can't be below itself"),
        ({"calibration": {"images": 0}}, "greater than or equal to 1"),
        ({"calibration": {"binning": "ours"}}, "'aligned' or 'reference'"),
        ({"calibration": {"imgs": 5}}, "Extra inputs are not permitted"),
        ({"wieght": False}, "Extra inputs are not permitted"),
    ],
)
def test_refuses_a_variant(variant: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        recipe(a=variant)
    assert message in str(caught.value)


@for_each(
    ("change", "message"),
    [
        ({"variants": {}}, "at least 1 item"),
        ({"variants": {"Int8": {}}}, "should match pattern"),
        ({"variants": {"": {}}}, "should match pattern"),
        ({"version": 0}, "greater than or equal to 1"),
        ({"version": "1"}, "valid integer"),
        ({"dataset": ""}, "at least 1 character"),
        ({"base": {"source": "torchhub", "architecture": "x"}}, "'torchvision', 'timm', 'qzoo' or 'python'"),
        ({"base": {"source": "timm", "architecture": "x", "sha256": "0676BA61"}}, "should match pattern"),
        ({"base": {"source": "timm", "architecture": "x", "sha256": "0676ba6"}}, "should match pattern"),
        ({"base": {"source": "timm", "architecture": "x", "package": {"name": "a"}}}, "package.file"),
        ({"base": PACKAGED | {"package": PACKAGE | {"file": "a/b.pth"}}}, "should match pattern"),
        ({"base": PACKAGED | {"source": "qzoo"}}, "`package` goes with `source: timm` only, not with qzoo"),
    ],
)
def test_refuses_a_recipe(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({**HEAD, "variants": {"a": {}}, **change})
    assert message in str(caught.value)


def test_a_scheme_has_rules() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Scheme.model_validate({"rules": []})


def test_variants_can_be_made_in_python() -> None:
    assert Variant(from_="int8") == Variant.model_validate({"from": "int8"})


@pytest.mark.parametrize("digits", ["57934424", "01234567", "1e345678"])
def test_a_digest_of_digits_alone_is_put_between_quotes(digits: str) -> None:
    text = "base: {source: timm, architecture: resnet18, sha256: %s}\ndataset: imagenet-1k\nvariants: {int8: {}}\n"
    with pytest.raises(RecipeError, match=r"<text>:1: base\.sha256: YAML reads \S+ as a number"):
        parse_recipe(text % digits)
    assert parse_recipe(text % f'"{digits}"').base.sha256 == digits
