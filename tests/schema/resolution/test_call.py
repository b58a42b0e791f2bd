"""What a call in Python says beside a name: calibrator, skip, rules."""

from __future__ import annotations

from typing import Any

import pytest

import qzoo
from qzoo.errors import ArgumentError, RuleError
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Layer, Operator, Plan, Site
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve, resolve_scheme
from qzoo.schema.rule import Rule
from tests.each import for_each

CONV, POOL = ("Conv2d", "Module"), ("AvgPool2d", "Module")
LAYERS = [
    Layer("stem", CONV, True), Layer("layer1.conv1", CONV, True), Layer("layer1.conv2", CONV, True),
    Layer("layer10.conv1", CONV, True), Layer("layer1.pool", POOL, False), Layer("fc", ("Linear", "Module"), True),
]  # fmt: skip
OPERATORS = [
    Operator("layer1", ("Block",), Site("add", 0, 0), ("left", "right"), skip="right", main="left"),
    Operator("layer10", ("Block",), Site("add", 0, 0), ("left", "right"), skip="right", main="left"),
    Operator("layer1.attn", ("Attention",), Site("matmul", 0, 0), ("left", "right")),
]
IN_ATTENTION: dict[str, Any] = {"match": {"op": "matmul"}, "input": {"bits": 8}}


def planned(variant: ResolvedVariant | None = None, **said: Any) -> Plan:
    return bind(with_call(variant or resolve_scheme("int8"), **said), LAYERS, OPERATORS)


def specs(plan: Plan) -> dict[str, str]:
    return {one.path: str(one.spec) for one in plan.quantizers}


def test_a_calibrator_is_that_of_inputs_and_residual_additions_but_not_of_pooling() -> None:
    found = specs(planned(residual="skip", calibrator={"percentile": 99.9}))
    by_percentile = {path for path, spec in found.items() if spec.endswith("percentile 99.9")}
    assert by_percentile == {
        "stem.input_quantizer", "layer1.conv1.input_quantizer", "layer1.conv2.input_quantizer",
        "layer10.conv1.input_quantizer", "fc.input_quantizer", "layer1.residual_quantizer",
        "layer10.residual_quantizer",
    }  # fmt: skip
    assert with_call(resolve_scheme("int8"), calibrator="mse").method == "mse"


@for_each(("skip", "left"), [
    ("layer1", {"layer1.conv1", "layer1.conv2", "layer1.pool", "layer1 residual", "layer1.attn matmul"}),
    (["layer1.conv?"], {"layer1.conv1", "layer1.conv2"}),
    (["stem", "fc"], {"stem", "fc"}),
    (["*.conv1"], {"layer1.conv1", "layer10.conv1"}),
    (["layer1.attn", "stem"], {"layer1.attn matmul", "stem"}),
])  # fmt: skip
def test_what_is_skipped_stays_in_float_with_all_that_is_inside(skip: Any, left: set[str]) -> None:
    def parts(plan: Plan) -> set[str]:
        names = {
            "residual": " residual", "residual_main": " residual", "matmul_left": " matmul", "matmul_right": " matmul",
        }  # fmt: skip
        return {one.module + names.get(one.role, "") for one in plan.quantizers}

    everything = planned(residual="both", rules=[IN_ATTENTION])
    assert parts(everything) - parts(planned(residual="both", rules=[IN_ATTENTION], skip=[])) == set()
    rules = resolve(_recipe(residual="both", rules=[IN_ATTENTION]), "int8")
    assert parts(everything) - parts(planned(rules, skip=skip)) == left


def _recipe(**variant: Any) -> RecipeEntry:
    base = {"source": "timm", "architecture": "resnet18"}
    content = {"base": base, "dataset": "x", "variants": {"int8": variant}}
    return RecipeEntry.from_recipe(Recipe.model_validate(content), "net")


def test_the_last_wins_recipe_calibrator_skip_rules() -> None:
    variant = resolve(_recipe(rules=[{"match": {"name": "stem"}, "input": {"calibrator": "entropy"}}]), "int8")
    back = Rule.model_validate({"match": {"name": "fc"}, "weight": {"bits": 4}})
    plan = planned(variant, calibrator="mse", skip=["fc", "layer10"], rules=[back])
    found = specs(plan)
    assert found["stem.input_quantizer"] == "8bit per-tensor mse"
    assert found["fc.weight_quantizer"] == "4bit per-channel max"
    assert "fc.input_quantizer" not in found
    assert "layer10.conv1.input_quantizer" not in found
    assert [str(one.origin) for one in plan.quantizers if one.path == "fc.weight_quantizer"] == ["rules[0]  <call>"]
    assert str(plan.float_rules["layer10.conv1"]) == "skip[1]  <call>"


@for_each(("said", "kind", "message"), [
    ({"skip": ["layr1"]}, RuleError, r"<call>: skip\[0\] of int8 matches nothing: 'layr1'\. Nearest: 'layer1'"),
    ({"skip": ["fc", "layer2.*"]}, RuleError, r"<call>: skip\[1\] of int8 matches nothing: 'layer2\.\*'\. Nearest"),
    ({"rules": [{"match": {"name": "fcc"}, "input": False}]}, RuleError, r"rules\[0\] of int8 .*'fcc'\. Nearest: 'fc'"),
    ({"rules": [{"match": {"nam": "fc"}, "input": False}]}, RuleError, r"rules\[0\]: match.*unknown key 'nam'\. Did"),
    ({"rules": [{"match": {"name": "fc"}}]}, RuleError, r"rules\[0\]: a rule needs one of"),
    ({"rules": [{"match": {"name": "fc"}, "input": {"bits": 1}}]}, RuleError, r"rules\[0\]: input\.bits: .*given: 1"),
    ({"rules": ["fc"]}, RuleError, r"rules\[0\]: expected a mapping with some of the keys match"),
    ({"rules": {"match": {"name": "fc"}, "input": False}}, ArgumentError, r"is no list of rules\. Give \[\{match"),
    ({"rules": print}, ArgumentError, r"is no list of rules\. Give \[\{match"),
    ({"skip": 3}, ArgumentError, r"skip=3 is no list of names\. Give \['head', 'layer4\.\*'\]\."),
    ({"calibrator": 99.9}, RuleError, r"calibrator=99\.9: expected max, mse, entropy or \{percentile: 99\.99\}\."),
    ({"skip": [3]}, ArgumentError, r"skip\[0\] is 3; expected the name of a module, or a glob\."),
    ({"skip": [""]}, ArgumentError, r"skip\[0\] is ''; expected the name"),
    ({"calibrator": "percentle"}, RuleError, r"calibrator='percentle': unknown calibrator .* Did you mean 'perc"),
    ({"calibrator": {"percentile": 101}}, RuleError, r"calibrator=\{'percentile': 101\}: Input should be less than or"),
])  # fmt: skip
def test_what_does_not_fit_is_told_with_the_nearest(said: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        planned(**said)


def test_each_word_of_a_call_has_a_digest_of_its_own() -> None:
    plain = resolve_scheme("int8")
    rule = {"match": {"name": "fc"}, "weight": {"bits": 4}}
    said: list[dict[str, Any]] = [
        {}, {"calibrator": "mse"}, {"calibrator": "max"}, {"skip": ["fc"]}, {"skip": ["stem"]}, {"rules": [rule]},
        {"residual": "skip"}, {"rules": [{"match": {"name": ["fc", "fc.*"]}, "weight": False, "input": False}]},
    ]  # fmt: skip
    assert len({with_call(plain, **one).digest for one in said}) == len(said)
    rules = [{"match": {"name": "fc"}, "input": {"calibrator": "max"}}]
    before = resolve(_recipe(input={"calibrator": "mse"}, rules=rules), "int8")
    after = with_call(resolve(_recipe(rules=rules), "int8"), calibrator="mse")
    assert before.digest != after.digest


def test_quantize_and_explain_take_them() -> None:
    net = qzoo.create("resnet8_digits")
    said: dict[str, Any] = {"calibrator": "mse", "skip": ["layer3"], "rules": [qzoo.Rule.model_validate(
        {"match": {"name": "linear"}, "weight": {"bits": 4}}
    )]}  # fmt: skip
    found, model = qzoo.explain(net, "int8", **said), qzoo.quantize(net, "int8", **said)
    assert {one.path for one in found.quantizers} == {one.path for one in qzoo.explain(model).quantizers}
    assert type(model.layer3.conv1) is type(net.layer3.conv1)
    assert str(model.linear.weight_quantizer.spec) == "4bit per-channel max"
    assert str(model.conv1.input_quantizer.spec) == "8bit per-tensor mse"
    with pytest.raises(ArgumentError, match=r"explain\(\) got calibrator='mse' for a name"):
        qzoo.explain("resnet8_digits_int8", calibrator="mse")
