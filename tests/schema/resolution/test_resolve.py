from __future__ import annotations

import json
from typing import Any

import pytest

from qzoo.errors import RecipeError, RuleError, UnknownNameError
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve, resolve_scheme

HEAD: dict[str, Any] = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "imagenet-1k", "version": 3}


def entry(variants: dict[str, Any], **change: Any) -> RecipeEntry:
    return RecipeEntry.from_recipe(Recipe.model_validate({**HEAD, "variants": variants, **change}), "net")


def said(variant: ResolvedVariant) -> list[str]:
    return [str(rule).partition("  (")[0] for rule in variant.rules if rule.must_match]


def test_scheme_then_fields_along_the_chain_then_rules_along_it() -> None:
    fc = {"match": {"name": "fc"}}
    resolved = resolve(
        entry(
            {
                "a": {"input": {"calibrator": "mse"}, "rules": [{**fc, "input": False}]},
                "b": {"from": "a", "weight": {"bits": 4}},
                "c": {"from": "b", "input": {"bits": 4}, "rules": [{**fc, "weight": False}]},
            }
        ),
        "c",
    )
    assert said(resolved) == [
        "layers with weights: input calibrator mse",
        "layers with weights: weight bits 4, format int",
        "layers with weights: input bits 4, format int",
        "fc: input float",
        "fc: weight float",
    ]
    assert [rule.must_match for rule in resolved.rules] == [False, False, True, True, True, True, True]
    assert (resolved.name, resolved.version, resolved.dataset) == ("net_c", 3, "imagenet-1k")


@pytest.mark.parametrize(
    ("variants", "scheme"),
    [
        ({"c": {}}, "w4a8"),
        ({"c": {"scheme": "fp8"}}, "fp8"),
        ({"a": {"scheme": "fp8"}, "b": {"from": "a"}, "c": {"from": "b"}}, "fp8"),
        ({"a": {"scheme": "fp8"}, "b": {"from": "a", "scheme": "w4a4"}, "c": {"from": "b"}}, "w4a4"),
    ],
)
def test_the_last_scheme_along_the_chain_wins(variants: dict[str, Any], scheme: str) -> None:
    resolved = resolve(entry(variants, scheme="w4a8"), "c")
    assert {rule.origin.field for rule in resolved.rules} == {f"scheme {scheme} rules.0", f"scheme {scheme} rules.1"}


def test_calibration_merges_field_by_field() -> None:
    variants = {
        "a": {"calibration": {"images": 64, "seed": 1}},
        "b": {"from": "a", "calibration": {"seed": 2}},
        "c": {"from": "b", "calibration": {"transform": "train"}},
    }
    calibration = resolve(entry(variants, calibration={"batch_size": 16, "images": 32}), "c").calibration
    assert (calibration.batch_size, calibration.images, calibration.seed, calibration.transform) == (16, 64, 2, "train")


def test_residual_merges_field_by_field_and_none_ends_it() -> None:
    variants = {
        "a": {"residual": "skip"},
        "b": {"from": "a", "residual": {"bits": 4}},
        "c": {"from": "b", "residual": {"placement": "both", "calibrator": "mse"}},
        "d": {"from": "c", "residual": "none"},
    }
    both = resolve(entry(variants), "c").residual
    assert both is not None
    assert (both.placement, both.fields["bits"], str(both.fields["calibrator"])) == ("both", 4, "mse")
    assert resolve(entry(variants), "d").residual is None


@pytest.mark.parametrize("placement", ["skip", "both", {"placement": "skip"}])
def test_a_residual_may_inherit_its_placement_and_needs_one(placement: Any) -> None:
    inherited = resolve(
        entry({"a": {"residual": placement}, "b": {"from": "a", "residual": {"bits": 4}}}), "b"
    ).residual
    assert inherited is not None
    assert inherited.fields["bits"] == 4
    with pytest.raises(RuleError, match=r"variants\.b\.residual: says no placement\. Add one: \{placement: skip, "):
        resolve(entry({"a": {}, "b": {"from": "a", "residual": {"bits": 4}}}), "b")


def test_a_scheme_may_place_residual_quantizers() -> None:
    ort = entry({"a": {"scheme": "int8_ort", "residual": {"bits": 4}}, "b": {"from": "a", "residual": "none"}})
    residual = resolve(ort, "a").residual
    assert residual is not None
    assert (residual.placement, residual.fields["bits"]) == ("both", 4)
    assert resolve(ort, "b").residual is None


@pytest.mark.parametrize(
    ("variant", "speaks"),
    [
        ({}, False),
        ({"residual": "skip"}, True),
        ({"residual": "none"}, False),
        ({"rules": [{"match": {"name": "layer1.*"}, "residual": "both"}]}, True),
        ({"rules": [{"match": {"op": "matmul"}, "input": {}}]}, True),
        ({"rules": [{"match": {"name": "fc"}, "input": False}]}, False),
    ],
)
def test_a_model_is_traced_only_where_a_variant_speaks_of_operators(variant: Any, speaks: bool) -> None:
    assert resolve(entry({"a": variant}), "a").speaks_of_operators is speaks


def test_the_general_input_is_that_of_layers_with_weights() -> None:
    rules = [{"match": {"type": "AdaptiveAvgPool2d"}, "input": {"bits": 16}}, {"match": {"name": "fc"}, "input": False}]
    fields = resolve(entry({"a": {"input": {"calibrator": "mse"}, "rules": rules}}), "a").general_input()
    assert (fields["bits"], str(fields["calibrator"])) == (8, "mse")


def test_a_residual_that_contradicts_itself_by_merging() -> None:
    variants = {
        "a": {"residual": {"placement": "skip", "unsigned": True}},
        "b": {"from": "a", "residual": {"format": "e4m3"}},
    }
    with pytest.raises(
        RuleError, match=r"<recipe>: variants\.b\.residual: e4m3 always has a sign: leave out `unsigned`"
    ):
        resolve(entry(variants), "b")


def test_claims_are_not_inherited_and_finetuning_is() -> None:
    claim = {"top1": 70, "source": "somebody, somewhere"}
    variants = {"a": {"published": claim, "finetune": {"epochs": 2, "lr": 0.1}}, "b": {"from": "a"}}
    resolved = resolve(entry(variants), "b")
    assert resolved.published == ()
    assert resolved.finetune is not None
    assert resolved.finetune.epochs == 2


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ({}, "max"),
        ({"input": {"calibrator": "mse"}}, "mse"),
        ({"scheme": "w4a8"}, "percentile 99.99"),
        (
            {"scheme": "w4a8", "rules": [{"match": {"name": "fc"}, "input": {"calibrator": "entropy"}}]},
            "percentile 99.99",
        ),
        ({"rules": [{"match": {"type": "Conv2d"}, "input": {"calibrator": "entropy"}}]}, "entropy"),
        ({"rules": [{"match": {"type": "AvgPool2d"}, "input": {"calibrator": "entropy"}}]}, "max"),
    ],
)
def test_the_method_is_that_of_inputs_of_layers_with_weights(variant: dict[str, Any], method: str) -> None:
    assert resolve(entry({"a": variant}), "a").method == method


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"<recipe> has no variant 'int9'. Did you mean 'int8'\? Known: int8."):
        resolve(entry({"int8": {}}), "int9")
    with pytest.raises(
        RecipeError, match=r"variants.a.scheme: unknown scheme 'int9'. Did you mean 'int8'\? Known: fp8,"
    ):
        resolve(entry({"a": {"scheme": "int9"}}), "a")
    with pytest.raises(UnknownNameError, match=r"Unknown scheme 'int9'. Did you mean 'int8'\?"):
        resolve_scheme("int9")


def test_a_scheme_alone_has_the_rules_it_has_in_a_recipe() -> None:
    assert resolve_scheme("fp8").rules == resolve(entry({"a": {"scheme": "fp8"}}), "a").rules


def test_json_names_the_variant_and_its_digest() -> None:
    resolved = resolve(entry({"a": {}}), "a")
    content = json.loads(resolved.to_json())
    assert (content["name"], content["version"], content["digest"]) == ("net_a", 3, resolved.digest)
    assert content["base"] == HEAD["base"]
