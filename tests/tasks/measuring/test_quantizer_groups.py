"""Each group's rule, in a recipe, leaves in float what was switched off to measure it."""

from __future__ import annotations

import pytest
from torch import nn

from qzoo.models.bases import meta_model
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.ranges import quantizers
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import parse_recipe
from qzoo.schema.reading.yaml_source import yaml_line
from qzoo.schema.resolution.resolve import resolve
from qzoo.tasks.measuring.quantizer_groups import QuantizerGroup, quantizer_groups, with_equal_rules

RECIPE = """
base: {{source: timm, architecture: {architecture}}}
dataset: imagenet-1k
scheme: int8
variants:
  all:
    residual: both
    rules: [{operators}]
  mended:
    from: all
    rules: [{rule}]
"""
OPERATORS = {
    "test_resnet": '{match: {type: Conv2d}, output: {bits: 8}}',
    "test_vit": '{match: {op: [scaled_dot_product_attention, gelu]}, input: {}, output: {}}',
}  # fmt: skip


def quantized(architecture: str, variant: str, rule: str = "{match: {name: '*'}, input: {bits: 8}}") -> nn.Module:
    text = RECIPE.format(architecture=architecture, operators=OPERATORS[architecture], rule=rule)
    resolved = resolve(RecipeEntry.from_recipe(parse_recipe(text), "made"), variant)
    model = meta_model(resolved.base)
    quantize_in_place(model, resolved)
    for quantizer in quantizers(model).values():
        quantizer.state = "quantizing"
    return model


@pytest.mark.parametrize("architecture", OPERATORS)
def test_a_rule_removes_its_unit_and_those_of_the_same_rule(architecture: str) -> None:
    model = quantized(architecture, "all")
    groups = quantizer_groups(model)
    assert {id(q) for group in groups for q in group.quantizers} == {id(q) for q in quantizers(model).values()}
    for group in _one_of_each_kind(groups):
        assert group.rule is not None
        mended = quantized(architecture, "mended", yaml_line(group.rule))
        off = {id(q) for one in with_equal_rules([group], groups) for q in one.quantizers}
        left = {path for path, quantizer in quantizers(model).items() if id(quantizer) not in off}
        assert set(quantizers(mended)) == left, group.name


def _one_of_each_kind(groups: list[QuantizerGroup]) -> list[QuantizerGroup]:
    kinds = {(type(group.module), group.name.rpartition(".")[2]): group for group in groups}
    assert len(kinds) > 4
    return list(kinds.values())
