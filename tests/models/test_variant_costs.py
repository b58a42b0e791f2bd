"""Costs of resnet8_digits against arithmetic by hand."""

from __future__ import annotations

import pytest

from qzoo.models.variant_costs import costs_of_base
from qzoo.results.facts import ModelSize, VariantCosts
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import resolve

# By layer: values of the weight, and positions of the 8 x 8 image that it is multiplied at.
LAYERS = {
    "conv1": (16 * 1 * 9, 64),
    "layer1.conv1": (16 * 16 * 9, 64), "layer1.conv2": (16 * 16 * 9, 64),
    "layer2.conv1": (32 * 16 * 9, 16), "layer2.conv2": (32 * 32 * 9, 16),
    "layer3.conv1": (64 * 32 * 9, 4), "layer3.conv2": (64 * 64 * 9, 4),
    "linear": (10 * 64, 1),
}  # fmt: skip
WEIGHTS = sum(values for values, _ in LAYERS.values())
MACS = sum(values * positions for values, positions in LAYERS.values())
NORMED = 3 * 16 + 2 * 32 + 2 * 64
CHANNELS = NORMED + 10
FLOAT_BYTES = 4 * (WEIGHTS + 10 + 4 * NORMED)
"""The classifier's bias; of each batch norm scale, shift, mean and variance."""
FIRST_AND_LAST = LAYERS["conv1"][0] + LAYERS["linear"][0]
BY_NAME = {
    "w4a8": {
        "scheme": "w4a8",
        "rules": [{"match": {"name": ["conv1", "linear"]}, "weight": {"bits": 8}, "why": "first and last at 8 bits"}],
    },
    "head": {"scheme": "int8", "rules": [{"match": {"name": "linear"}, "weight": False, "input": False, "why": "x"}]},
    "tensor": {"scheme": "int8", "weight": {"per": "tensor"}},
    "asym": {"scheme": "int8", "weight": {"symmetric": False}, "input": {"symmetric": "auto"}},
    "fp8": {"scheme": "fp8"},
    "weights": {"scheme": "int8", "input": False},
    "unsigned": {"scheme": "int8", "input": {"unsigned": "auto"}},
}


@pytest.fixture(scope="module")
def found() -> tuple[ModelSize, dict[str, VariantCosts]]:
    recipe = Recipe.model_validate(
        {"base": {"source": "qzoo", "architecture": "resnet8_digits"}, "dataset": "digits", "variants": BY_NAME}
    )
    entry = RecipeEntry.from_recipe(recipe, "mine")
    return costs_of_base(recipe.base, [resolve(entry, name) for name in BY_NAME])


def test_the_base(found: tuple[ModelSize, dict[str, VariantCosts]]) -> None:
    assert found[0] == ModelSize(parameters=WEIGHTS + 10 + 2 * NORMED, macs=MACS, bytes=FLOAT_BYTES)
    assert (found[0].parameters, found[0].macs) == (75_002, 747_136)


def test_weights_of_four_bits_between_a_first_and_a_last_layer_of_eight(
    found: tuple[ModelSize, dict[str, VariantCosts]],
) -> None:
    costs = found[1]["w4a8"]
    four = WEIGHTS - FIRST_AND_LAST
    assert costs.bits == pytest.approx((4 * four + 8 * FIRST_AND_LAST) / WEIGHTS, abs=1e-4)
    assert costs.bytes == FLOAT_BYTES - 4 * WEIGHTS + four // 2 + FIRST_AND_LAST + 4 * CHANNELS
    assert costs.integer_share == 1.0
    assert costs.needs == []


def test_a_layer_in_float(found: tuple[ModelSize, dict[str, VariantCosts]]) -> None:
    costs, (values, positions) = found[1]["head"], LAYERS["linear"]
    assert costs.bits == pytest.approx((8 * (WEIGHTS - values) + 32 * values) / WEIGHTS, abs=1e-4)
    assert costs.bytes == FLOAT_BYTES - 3 * (WEIGHTS - values) + 4 * (CHANNELS - 10)
    assert costs.integer_share == pytest.approx(1 - values * positions / MACS, abs=1e-4)


def test_a_scale_and_a_zero_point_for_each_channel_or_for_all(
    found: tuple[ModelSize, dict[str, VariantCosts]],
) -> None:
    assert found[1]["tensor"].bytes == FLOAT_BYTES - 3 * WEIGHTS + 4 * len(LAYERS)
    assert found[1]["asym"].bytes == FLOAT_BYTES - 3 * WEIGHTS + 5 * CHANNELS
    assert found[1]["asym"].needs == ["weight_zero_points", "zero_points"]


def test_what_runs_on_no_integers(found: tuple[ModelSize, dict[str, VariantCosts]]) -> None:
    assert (found[1]["fp8"].bits, found[1]["fp8"].integer_share, found[1]["fp8"].needs) == (8.0, 0.0, ["fp8"])
    assert (found[1]["weights"].bits, found[1]["weights"].integer_share) == (8.0, 0.0)
    assert found[1]["unsigned"].needs == ["unsigned"]
