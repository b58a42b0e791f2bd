"""Each unit's rule, in a recipe, leaves in float what was switched off to measure it."""

from __future__ import annotations

import pytest
from torch import nn

from qzoo.models.bases import meta_model
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.ranges import quantizers
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.loading import parse_recipe
from qzoo.schema.resolve import resolve
from qzoo.schema.yaml_source import yaml_line
from qzoo.tasks.units import Unit, units_of, with_equal_rules

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
    units = units_of(model)
    assert {id(q) for unit in units for q in unit.quantizers} == {id(q) for q in quantizers(model).values()}
    for unit in _one_of_each_kind(units):
        assert unit.rule is not None
        mended = quantized(architecture, "mended", yaml_line(unit.rule))
        off = {id(q) for one in with_equal_rules([unit], units) for q in one.quantizers}
        left = {path for path, quantizer in quantizers(model).items() if id(quantizer) not in off}
        assert set(quantizers(mended)) == left, unit.name


def _one_of_each_kind(units: list[Unit]) -> list[Unit]:
    kinds = {(type(unit.module), unit.name.rpartition(".")[2]): unit for unit in units}
    assert len(kinds) > 4
    return list(kinds.values())
