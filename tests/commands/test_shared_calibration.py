from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from qzoo.commands.settings import Settings
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.models.bases import create_base
from qzoo.quant.ranges import get_ranges
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve

VARIANTS: dict[str, Any] = {
    "int8": {},
    "mse": {"input": {"calibrator": "mse"}},
    "skip": {"residual": {"placement": "skip", "calibrator": "max"}},
    "both": {"residual": {"placement": "both", "calibrator": "max"}, "output": {"bits": 8}},
    "add": {"rules": [{"match": {"op": "add"}, "input": {"bits": 8, "calibrator": {"percentile": 99.9}}}]},
    "relu": {"rules": [{"match": {"op": "relu"}, "output": {"bits": 4}}]},
    "one_layer": {"rules": [{"match": {"name": "layer*"}, "input": False, "weight": False}]},
    "others": {"residual": "skip", "calibration": {"images": 16}},
}
RECIPE = Recipe.model_validate({
    "base": {"source": "qzoo", "architecture": "resnet8_digits"}, "dataset": "digits",
    "calibration": {"images": 64}, "variants": VARIANTS,
})  # fmt: skip


@pytest.fixture
def variants() -> list[ResolvedVariant]:
    entry = RecipeEntry.from_recipe(RECIPE, "mine")
    return [resolve(entry, name) for name in VARIANTS]


class Counting:
    """A progress bar that counts passes over images."""

    def __init__(self) -> None:
        self.passes: list[int | None] = []

    def __call__(self, items: Iterable[Any], images: int | None, what: str) -> Iterable[Any]:
        self.passes += [images] if images else []  # of none is a phase of other work
        return items


def test_one_pass_serves_all_and_each_gets_the_ranges_it_would_get_alone(variants: list[ResolvedVariant]) -> None:
    torch.manual_seed(0)
    base, passes = create_base(RECIPE.base), Counting()
    shared = SharedCalibration(base, variants, Settings(), passes)
    together = {variant.variant: get_ranges(shared.calibrated(variant)[0]) for variant in variants}
    assert passes.passes == [64, 16]
    for variant in variants:
        alone, _ = SharedCalibration(base, [variant], Settings(), Counting()).calibrated(variant)
        ranges = get_ranges(alone)
        assert list(together[variant.variant]) == list(ranges)
        assert all(torch.equal(together[variant.variant][key], ranges[key]) for key in ranges), variant.name
    residuals = [key for key in together["others"] if "residual" in key]
    assert any(together["skip"][key] != together["others"][key] for key in residuals)


def test_two_names_of_one_tensor_see_the_same(variants: list[ResolvedVariant]) -> None:
    shared = SharedCalibration(create_base(RECIPE.base), variants, Settings(), Counting())
    skip, add = (get_ranges(shared.calibrated(variants[n])[0]) for n in (2, 4))
    operand = next(key for key in add if key.startswith("layer1.add_right"))
    assert add[operand] <= skip["layer1.residual_quantizer.amax"]
    assert len([key for key in add if ".add_" in key]) == 2 * len([key for key in skip if ".residual" in key])
