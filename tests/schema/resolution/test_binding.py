from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qzoo.errors import RuleError
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.plan import Layer, Plan
from qzoo.schema.resolution.resolve import resolve, resolve_scheme
from tests.each import for_each

CONV = ("Conv2d", "torch.nn.modules.conv.Conv2d")
LINEAR = ("Linear", "torch.nn.modules.linear.Linear")
LAYERS = [
    Layer("conv1", ("Conv2dSame", "timm.layers.conv2d_same.Conv2dSame", *CONV), True),
    Layer("layer1.0.conv1", CONV, True),
    Layer("layer1.0.conv2", CONV, True),
    Layer("layer2.0.conv1", CONV, True),
    Layer("pool", ("AdaptiveAvgPool2d", "torch.nn.modules.pooling.AdaptiveAvgPool2d"), False),
    Layer("embed", ("Embedding",), True),
    Layer("fc", LINEAR, True),
]
FC = {"match": {"name": "fc"}}


def plan(variant: dict[str, Any], others: dict[str, Any] | None = None) -> Plan:
    base = {"source": "timm", "architecture": "resnet18"}
    recipe = Recipe.model_validate({"base": base, "dataset": "x", "variants": {**(others or {}), "a": variant}})
    return bind(resolve(RecipeEntry.from_recipe(recipe, "net"), "a"), LAYERS)


def specs(variant: dict[str, Any], others: dict[str, Any] | None = None) -> dict[str, str]:
    return {f"{q.module}.{q.role}": str(q.spec) for q in plan(variant, others).quantizers}


def test_the_scheme_alone_in_the_order_of_the_model() -> None:
    quantized = [layer.name for layer in LAYERS if layer.name != "embed"]
    roles = [
        f"{name}.{role}" for name in quantized for role in ("input", "weight") if (name, role) != ("pool", "weight")
    ]
    assert list(specs({})) == roles
    assert specs({})["conv1.weight"] == "8bit per-channel max"
    assert plan({}).left_float == ["embed"]


def test_fields_of_a_variant_speak_of_the_weighted_layers_of_the_scheme() -> None:
    got = specs({"input": {"calibrator": "mse"}, "weight": {"bits": 4}})
    assert got["fc.input"] == "8bit per-tensor mse"
    assert got["fc.weight"] == "4bit per-channel max"
    assert got["pool.input"] == "8bit per-tensor max"
    assert not [key for key in got if key.startswith("embed")]


def test_fields_can_turn_off_and_on() -> None:
    assert specs({"input": False, "weight": False}) == {"pool.input": "8bit per-tensor max"}
    weights_off = {"weight": False, "input": False}
    assert specs({"from": "b", "input": {"bits": 4}}, {"b": weights_off})["fc.input"] == "4bit per-tensor max"
    assert specs({"output": {"bits": 6}})["conv1.output"] == "6bit per-tensor max"


def test_field_by_field_the_last_rule_wins() -> None:
    rules = [
        {"match": {"type": "Conv2d"}, "input": {"bits": 4, "calibrator": "mse"}},
        {"match": {"name": "layer1.*"}, "input": {"bits": 6}},
        {"match": {"name": "layer1.0.conv2"}, "input": {"unsigned": "auto"}, "weight": {"per": "tensor"}},
    ]
    got = specs({"input": {"calibrator": "entropy"}, "rules": rules})
    assert got["fc.input"] == "8bit per-tensor entropy"
    assert got["layer2.0.conv1.input"] == "4bit per-tensor mse"
    assert got["layer1.0.conv1.input"] == "6bit per-tensor mse"
    assert got["layer1.0.conv2.input"] == "auto-signed 6bit per-tensor mse"
    assert got["layer1.0.conv2.weight"] == "8bit per-tensor max"


def test_each_field_knows_its_rule(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe(
        "variants:\n  a:\n    input: {calibrator: mse}\n    rules:\n      - {match: {name: fc}, input: {bits: 4}}\n"
    )
    entry, _ = Catalog.load().find(str(path))
    fc = next(q for q in bind(resolve(entry, "a"), LAYERS).quantizers if (q.module, q.role) == ("fc", "input"))
    assert str(fc.origin) == "variants.a.rules.0  my.yaml:7"
    assert str(fc.field_origins["calibrator"]) == "variants.a.input  my.yaml:5"
    assert fc.field_origins["per"].field == "scheme int8 rules.0"


@for_each(
    ("match", "layers"),
    [
        ({"name": "layer*conv1"}, {"layer1.0.conv1", "layer2.0.conv1"}),
        ({"name": "layer1.*"}, {"layer1.0.conv1", "layer1.0.conv2"}),
        ({"name": "*conv?"}, {"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"}),
        ({"name": "conv[12]"}, {"conv1"}),
        ({"name": ["fc", "conv1"]}, {"fc", "conv1"}),
        ({"type": "Conv2d"}, {"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1"}),
        ({"type": "Conv2dSame"}, {"conv1"}),
        ({"type": "timm.layers.conv2d_same.Conv2dSame"}, {"conv1"}),
        ({"type": ["Linear", "Embedding"]}, {"fc", "embed"}),
        ({"type": "Conv2d", "name": "*.conv1"}, {"layer1.0.conv1", "layer2.0.conv1"}),
        ({"type": "pooling"}, {"pool"}),
        ({"type": ["weighted", "pooling"]}, {layer.name for layer in LAYERS} - {"embed"}),
    ],
)
def test_what_a_rule_matches(match: dict[str, Any], layers: set[str]) -> None:
    assert {
        q.module for q in plan({"rules": [{"match": match, "output": {}}]}).quantizers if q.role == "output"
    } == layers


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (
            {"name": "layer1.0.conv3"},
            "matches nothing: 'layer1.0.conv3'. Nearest: 'layer1.0.conv1', 'layer1.0.conv2', ",
        ),
        (
            {"name": "layer9.*.conv1"},
            "matches nothing: 'layer9.*.conv1'. Nearest: 'layer1.0.conv1', 'layer2.0.conv1', ",
        ),
        ({"name": "zz"}, "matches nothing: 'zz'. Nearest: "),
        ({"name": "CONV1"}, "matches nothing: 'CONV1'."),
        ({"type": "Conv3d"}, "matches nothing: 'Conv3d'. Nearest: 'Conv2d', 'Conv2dSame', "),
        ({"type": "Linear", "name": "conv1"}, "matches nothing: conv1 is a Conv2dSame, no Linear."),
        ({"type": "weightd"}, "matches nothing: 'weightd'. Nearest: 'weighted', "),
        ({"type": "poolings"}, "matches nothing: 'poolings'. Nearest: 'pooling', "),
        ({"type": "pooling", "name": "fc"}, "matches nothing: fc is a Linear, no pooling."),
    ],
)
def test_a_rule_that_matches_nothing(write_recipe: Callable[[str], Path], match: dict[str, Any], message: str) -> None:
    path = write_recipe(f"variants:\n  a:\n    rules:\n      - {{match: {match}, input: false}}\n")
    entry, _ = Catalog.load().find(str(path))
    with pytest.raises(RuleError) as caught:
        bind(resolve(entry, "a"), LAYERS)
    assert str(caught.value).startswith(f"my.yaml:6: variants.a.rules.0 of my_a {message}")


def test_three_names_are_shown_and_the_way_on() -> None:
    with pytest.raises(RuleError) as caught:
        plan({"rules": [{"match": {"name": "zz"}, "input": False}]})
    assert str(caught.value).partition("Nearest: ")[2].count("'") == 6
    assert str(caught.value).endswith(f"`qzoo explain` of a variant without this rule shows all {len(LAYERS)} layers.")


def test_all_rules_that_match_nothing_are_reported_together() -> None:
    rules = [{"match": {"name": name}, "input": False} for name in ("fd", "fc", "fe")]
    with pytest.raises(RuleError) as caught:
        plan({"rules": rules})
    assert [line.split()[1] for line in str(caught.value).splitlines()] == ["variants.a.rules.0", "variants.a.rules.2"]


def test_a_weight_rule_on_layers_without_weights() -> None:
    with pytest.raises(
        RuleError, match=r"matches only layers without a weight \(pool\); say `input` or `output` of them"
    ):
        plan({"rules": [{"match": {"name": "pool"}, "weight": {"bits": 4}}]})


def test_a_scheme_may_match_nothing_but_a_variants_fields_may_not() -> None:
    layers = [layer for layer in LAYERS if layer.name in ("pool", "embed")]
    assert [q.module for q in bind(resolve_scheme("int8"), layers).quantizers] == ["pool"]
    resolved = resolve(Catalog.load().find("resnet50_int8")[0], "int8")
    with pytest.raises(RuleError, match=r"int8\.input of resnet50_int8 speaks of layers with weights, and the scheme"):
        bind(resolved, layers)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"scheme": "fp8", "input": {"unsigned": "auto"}},
            "conv1.input: e4m3 always has a sign: leave out `unsigned`, or say `unsigned: false`. "
            "It comes from format: e4m3 (scheme fp8 rules.0  ",
        ),
        ({"scheme": "fp8", "input": {"unsigned": "auto"}}, "and unsigned: auto (variants.a.input  <recipe>)."),
        (
            {"weight": {"narrow": True}, "rules": [FC | {"weight": {"format": "e5m2"}}]},
            "fc.weight: e5m2 is symmetric by itself",
        ),
        (
            {"scheme": "int8_asym", "input": {"unsigned": "auto"}},
            "conv1.input: with `symmetric: false` a zero point takes the place of `unsigned`: leave out one of them. "
            "It comes from symmetric: False (scheme int8_asym rules.0  ",
        ),
        ({"scheme": "fp8", "input": {"symmetric": False}}, "conv1.input: e4m3 has no zero point"),
        ({"input": {"unsigned": True}, "rules": [FC | {"input": {"narrow": True}}]}, "fc.input: `narrow` leaves out"),
    ],
)
def test_a_contradiction_that_arises_by_merging_names_both_rules(variant: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        plan(variant)
    assert message in str(caught.value)


@pytest.mark.parametrize("scheme", ["int8", "int8_ort"])
def test_a_zero_point_said_later_replaces_what_a_scheme_says_of_the_sign(scheme: str) -> None:
    found = specs({"scheme": scheme, "input": {"symmetric": False, "calibrator": "max"}})
    assert found["fc.input"] == "asymmetric 8bit per-tensor max"


def test_bits_after_fp8_mean_int_again() -> None:
    assert specs({"scheme": "fp8", "weight": {"bits": 4}})["fc.weight"] == "4bit per-channel max"
    assert (
        specs({"weight": {"bits": 4}, "rules": [FC | {"weight": {"format": "e4m3"}}]})["fc.weight"]
        == "e4m3 per-channel max"
    )
