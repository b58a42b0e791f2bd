from __future__ import annotations

from typing import Any

import pytest

from qzoo.schema.quantizer import ActivationPatch
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.precedence import BoundRule, Origin, Precedence, ordered
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve
from qzoo.schema.rule import LAYER_KINDS

PATCH = ActivationPatch(bits=4)


def rule(precedence: Precedence = Precedence.RULE, shared: bool = False, **match: Any) -> BoundRule:
    return BoundRule({"input": PATCH}, Origin("a.yaml", 1, "x", shared), precedence, **match)


def resolved(variants: dict[str, Any], **recipe: Any) -> ResolvedVariant:
    base = {"source": "timm", "architecture": "resnet18"}
    content = {"base": base, "dataset": "x", "variants": variants, **recipe}
    return resolve(RecipeEntry.from_recipe(Recipe.model_validate(content), "net"), list(variants)[-1])


def test_scheme_then_variant_then_rule_then_call() -> None:
    assert sorted(Precedence) == [Precedence.SCHEME, Precedence.VARIANT, Precedence.RULE, Precedence.CALL]
    fc = [{"match": {"name": "fc"}, "input": False}]
    variants = {
        "a": {"rules": fc, "weight": {"bits": 4}},
        "b": {"from": "a", "residual": "skip", "rules": fc, "input": {"bits": 6}},
    }
    called = with_call(resolved(variants, scheme="int8_ort"), residual="both")
    assert [(one.precedence.name, one.origin.field) for one in called.rules] == [
        ("SCHEME", "scheme int8_ort residual"),
        ("SCHEME", "scheme int8_ort rules.0"),
        ("SCHEME", "scheme int8_ort rules.1"),
        ("VARIANT", "variants.a.weight"),
        ("VARIANT", "variants.b.input"),
        ("VARIANT", "variants.b.residual"),
        ("RULE", "variants.a.rules.0"),
        ("RULE", "variants.b.rules.0"),
        ("CALL", "residual"),
    ]


def test_rules_of_one_precedence_stay_in_order() -> None:
    rules = [rule(precedence, names=(str(n),)) for n, precedence in enumerate([*Precedence] * 3)]
    assert [int((one.names or "?")[0]) for one in ordered(reversed(rules))] == [8, 4, 0, 9, 5, 1, 10, 6, 2, 11, 7, 3]
    assert ordered(rules) == ordered(ordered(rules))


@pytest.mark.parametrize(
    ("precedence", "shared", "must"),
    [
        (Precedence.SCHEME, False, False),
        (Precedence.VARIANT, False, True),
        (Precedence.VARIANT, True, False),
        (Precedence.RULE, False, True),
        (Precedence.RULE, True, False),
        (Precedence.CALL, False, False),
    ],
)
def test_what_is_written_for_one_model_must_match(precedence: Precedence, shared: bool, must: bool) -> None:
    assert rule(precedence, shared).must_match is must


@pytest.mark.parametrize(
    ("match", "general"),
    [
        ({}, True),
        ({"types": LAYER_KINDS["weighted"]}, True),
        ({"types": ("Conv2d", "Linear")}, True),
        ({"types": ("torch.nn.modules.conv.Conv2d",)}, True),
        ({"types": LAYER_KINDS["pooling"]}, False),
        ({"types": ("Conv2dNormActivation",)}, False),
        ({"types": ("ConvNeXtBlock",)}, False),
        ({"types": ("Linear",), "names": ("fc",)}, False),
        ({"types": ("Linear",), "ops": ("matmul",)}, False),
        ({"names": ("*Conv*",)}, False),
    ],
)
def test_a_rule_is_general_by_the_types_that_have_weights(match: dict[str, Any], general: bool) -> None:
    assert rule(**match).is_general is general
    assert rule(**match).is_field is (not match)


def test_only_schemes_and_fields_speak_of_the_inputs_of_residual_quantizers() -> None:
    kinds = LAYER_KINDS["weighted"]
    assert rule(Precedence.SCHEME, types=kinds).speaks_of_residual_inputs
    assert rule(Precedence.VARIANT).speaks_of_residual_inputs
    assert not rule(Precedence.RULE, types=kinds).speaks_of_residual_inputs
    assert not rule(Precedence.SCHEME, types=LAYER_KINDS["pooling"]).speaks_of_residual_inputs
