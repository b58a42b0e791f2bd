"""Rules that speak of operators and of residual additions, bound to a model of a few names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.errors import RecipeError, RuleError
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Layer, Operator, Plan, Site
from qzoo.schema.resolution.resolve import resolve, resolve_scheme
from qzoo.schema.rule import Rule
from tests.each import for_each

LAYERS = [
    Layer("stem", ("Conv2d",), True),
    Layer("layer3.0.conv", ("Conv2d",), True),
    Layer("layer4.0.conv", ("Conv2d",), True),
    Layer("pool", ("AdaptiveAvgPool2d",), False),
]


def addition(module: str, position: int = 0, **fields: Any) -> Operator:
    skip = {"skip": "right", "main": "left"} if fields.pop("residual", True) else {}
    site = Site("add", fields.pop("call", 0), position)
    return Operator(module, ("Block", "my.Block"), site, ("left", "right"), **skip, **fields)


OPERATORS = [
    addition("layer3.0"),
    Operator("layer4.0.attn", ("Attention",), Site("sdpa", 0, 0), ("query", "key", "value")),
    Operator("layer4.0.attn", ("Attention",), Site("matmul", 0, 0), ("left", "right")),
    Operator("layer4.0.attn", ("Attention",), Site("matmul", 0, 1), ("left", "right"), number=2),
    addition("layer4.0"),
    addition("layer4.0", 1, number=2, residual_number=2),
    Operator("norm", ("LayerNorm",), Site("layer_norm", 0, 0), ("input",)),
    addition("", residual=False),
]


def variant(fields: dict[str, Any]) -> Any:
    base = {"source": "timm", "architecture": "resnet18"}
    recipe = Recipe.model_validate({"base": base, "dataset": "x", "variants": {"a": fields}})
    return resolve(RecipeEntry.from_recipe(recipe, "net"), "a")


def plan(fields: dict[str, Any], operators: list[Operator] = OPERATORS) -> Plan:
    return bind(variant(fields), LAYERS, operators)


def specs(fields: dict[str, Any], operators: list[Operator] = OPERATORS) -> dict[str, str]:
    """Returns the quantizers at operators: path and spec."""
    return {q.path: str(q.spec) for q in plan(fields, operators).quantizers if q.sites}


def rule(match: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"rules": [{"match": match, **said}]}


class TestOperators:
    @pytest.mark.parametrize(
        ("match", "names"),
        [
            ({"op": "sdpa"}, [f"layer4.0.attn.sdpa_{operand}_quantizer" for operand in ("query", "key", "value")]),
            ({"op": "matmul", "name": "*.attn"}, [
                f"layer4.0.attn.matmul_{name}" for name in
                ("left_quantizer", "right_quantizer", "left_quantizer_2", "right_quantizer_2")
            ]),
            ({"op": ["layer_*"]}, ["norm.layer_norm_input_quantizer"]),
            ({"op": "*", "type": "LayerNorm"}, ["norm.layer_norm_input_quantizer"]),
            ({"op": "add", "type": "my.Block", "name": "layer3.*"}, [
                "layer3.0.add_left_quantizer", "layer3.0.add_right_quantizer",
            ]),
        ],
    )  # fmt: skip
    def test_are_matched_by_name_type_and_op(self, match: dict[str, Any], names: list[str]) -> None:
        assert list(specs(rule(match, input={"bits": 8}))) == names

    def test_of_the_models_own_forward_have_no_path(self) -> None:
        got = specs(rule({"op": "add"}, input={"bits": 8}), [addition("", residual=False)])
        assert list(got) == ["add_left_quantizer", "add_right_quantizer"]

    def test_inputs_and_output_have_their_own_spec(self) -> None:
        said = rule(
            {"op": "layer_norm"}, input={"bits": 6, "unsigned": "auto"}, output={"bits": 4, "calibrator": "mse"}
        )
        assert specs(said) == {
            "norm.layer_norm_input_quantizer": "auto-signed 6bit per-tensor max",
            "norm.layer_norm_output_quantizer": "4bit per-tensor mse",
        }

    def test_stay_in_float_unless_a_rule_says_otherwise(self) -> None:
        assert specs({"input": {"bits": 4}, "rules": [{"match": {"name": "layer4.*"}, "input": {"bits": 6}}]}) == {}
        assert specs({"scheme": "int8"}) == {}
        assert plan({}).float_operators == OPERATORS

    def test_the_last_rule_wins(self) -> None:
        said = [{"match": {"op": "matmul"}, "input": {"bits": 4}}, {"match": {"op": "mat*"}, "input": {"bits": 6}},
                {"match": {"op": "sdpa"}, "input": {"bits": 8}}, {"match": {"op": "sdpa"}, "input": False}]  # fmt: skip
        got = specs({"rules": said})
        assert set(got.values()) == {"6bit per-tensor max"}
        assert len(got) == 4

    def test_vision_transformers_have_a_scheme(self) -> None:
        got = {q.path: str(q.spec) for q in bind(resolve_scheme("int8_vit"), LAYERS, OPERATORS).quantizers if q.sites}
        assert len(got) == 7
        assert set(got.values()) == {"auto-signed 8bit per-tensor max"}


class TestResiduals:
    SKIPS = ("layer3.0.residual_quantizer", "layer4.0.residual_quantizer", "layer4.0.residual_quantizer_2")
    MAINS = (
        "layer3.0.residual_main_quantizer", "layer4.0.residual_main_quantizer", "layer4.0.residual_main_quantizer_2",
    )  # fmt: skip

    @pytest.mark.parametrize("said", [
        {"residual": "skip"}, {"residual": {"placement": "skip"}}, rule({"name": "*"}, residual="skip"),
        rule({"type": "Block"}, residual="skip"),
    ])  # fmt: skip
    def test_the_skip(self, said: dict[str, Any]) -> None:
        got = [q for q in plan(said).quantizers if q.sites]
        assert tuple(q.path for q in got) == self.SKIPS
        assert {q.operand for q in got} == {"right"}

    def test_both_operands(self) -> None:
        got = {q.path: q.operand for q in plan({"residual": "both"}).quantizers if q.sites}
        assert got == dict.fromkeys(self.SKIPS, "right") | dict.fromkeys(self.MAINS, "left")
        assert set(specs({"scheme": "int8_ort"})) == set(got)

    @pytest.mark.parametrize("none", ["none", False, {"placement": "none"}])
    def test_a_rule_leaves_some_in_float(self, none: Any) -> None:
        got = specs({"residual": "skip", **rule({"name": "layer4.*"}, residual=none)})
        assert list(got) == ["layer3.0.residual_quantizer"]

    def test_a_rule_says_more_of_some(self) -> None:
        said = [
            {"match": {"name": "layer4.*"}, "residual": {"placement": "both", "bits": 4}},
            {"match": {"name": "layer3.*"}, "residual": {"calibrator": "mse"}},
        ]
        got = specs({"residual": "skip", "rules": said})
        assert got["layer3.0.residual_quantizer"] == "8bit per-tensor mse"
        assert got["layer4.0.residual_main_quantizer_2"] == "4bit per-tensor max"
        assert len(got) == 5

    def test_what_it_leaves_out_is_as_of_inputs(self) -> None:
        spec = {"bits": 6, "unsigned": "auto", "calibrator": {"percentile": 99.9}}
        inherited = {"input": spec, "residual": "skip"}
        assert set(specs(inherited).values()) == {"auto-signed 6bit per-tensor percentile 99.9"}
        own = {"input": spec, "residual": {"placement": "skip", "calibrator": "max", "bits": 4}}
        assert set(specs(own).values()) == {"auto-signed 4bit per-tensor max"}

    def test_rules_of_single_layers_are_not_inherited(self) -> None:
        said = {"residual": "skip", "rules": [{"match": {"name": "layer*"}, "input": {"bits": 4}}]}
        assert set(specs(said).values()) == {"8bit per-tensor max"}

    def test_each_call_of_a_module_has_its_own(self) -> None:
        twice = [addition("block", calls=2), addition("block", call=1, calls=2, number=2, residual_number=2)]
        got = [q for q in plan({"residual": "skip"}, twice).quantizers if q.sites]
        assert [(q.path, q.sites[0].call, q.calls) for q in got if q.sites] == [
            ("block.residual_quantizer", 0, 2),
            ("block.residual_quantizer_2", 1, 2),
        ]

    def test_float_models_may_be_told_so_without_operators(self) -> None:
        assert bind(variant({"residual": "none"}), LAYERS).quantizers

    def test_a_call_may_say_another_placement(self) -> None:
        quantized = bind(with_call(variant({"residual": "skip"}), residual="both"), LAYERS, OPERATORS).quantizers
        assert len([q for q in quantized if q.sites]) == 6
        with pytest.raises(RuleError, match=r"^residual='skp': unknown placement 'skp'\. Did you mean 'skip'\?"):
            with_call(variant({}), residual="skp")


@pytest.mark.parametrize(
    ("said", "operators", "message"),
    [
        (rule({"op": "matmuls"}, input={"bits": 8}), OPERATORS, "matches nothing: no operator 'matmuls'. The model's: "
         "add, layer_norm, matmul, sdpa."),
        (rule({"op": "matmul", "name": "layer5.*"}, input={"bits": 8}), OPERATORS,
         "matches nothing: this model has matmul, but in 'layer4.0.attn' ..."),
        ({"residual": "skip"}, OPERATORS[1:4], "speaks of residual additions, and this model has none. Leave out `"),
        (rule({"name": "layer9.*"}, residual="skip"), OPERATORS, "matches no residual addition: 'layer9.*'. They are "
         "in the forward of 'layer3.0', 'layer4.0' ..."),
        ({"residual": "skip", **rule({"op": "add", "name": "layer3.0"}, input={"bits": 8})}, OPERATORS,
         "layer3.0.add is a residual addition, and both `residual` (variants.a.residual  <recipe>) and `op` "
         "(variants.a.rules.0  <recipe>) quantize it. Say one: `residual: none`, or `input: false` for the op."),
        (rule({"name": "*"}, residual={"bits": 4}), OPERATORS,
         "variants.a.rules.0  <recipe>: says no placement. Add one: {placement: skip, ...}, or both."),
        ({"residual": {"bits": 4}}, OPERATORS, "variants.a.residual: says no placement. Add one: {placement: skip, "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(said: dict[str, Any], operators: list[Operator], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        plan(said, operators)
    assert message in str(caught.value)


@for_each(
    ("said", "message"),
    [
        ({"match": {"op": "matmul"}, "weight": {"bits": 4}}, "an operator has inputs and an output: leave out `weigh"),
        ({"match": {"op": "add"}, "residual": "skip"}, "an operator has inputs and an output: leave out `residual`"),
        ({"match": {}, "input": {"bits": 4}}, "a match needs one of `name`, `type`, `op`"),
        ({"match": {"op": "add"}}, "a rule needs one of `weight`, `input`, `output`, `residual`"),
        ({"match": {"name": "*"}, "residual": "skipp"}, "unknown placement 'skipp'. Did you mean 'skip'?"),
        ({"match": {"name": "*"}, "residual": 3}, "expected skip, both, none (or false), or fields such as "),
        ({"match": {"name": "*"}, "residual": True}, "expected skip, both, none (or false)"),
        ({"match": {"name": "*"}, "residual": {"placement": "none", "bits": 4}}, "`placement: none` leaves residual"),
        ({"match": {"name": "*"}, "residual": {"placement": "skip", "per": "channel"}}, "ranges per channel exist for"),
    ],
)  # fmt: skip
def test_a_faulty_rule(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate(said)
    assert message in str(caught.value)


def test_a_faulty_placement_in_a_file_has_line_and_field(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe("variants:\n  a: {residual: skp}\n")
    with pytest.raises(RecipeError, match=r"my\.yaml:4: variants\.a\.residual.*unknown placement 'skp'\. Did you mean"):
        Catalog.load().find(str(path))
