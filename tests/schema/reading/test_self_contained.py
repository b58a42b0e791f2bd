"""A recipe of one variant with its schemes inside says the same without any other file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import RecipeError, UnknownNameError
from qzoo.schema.reading.catalog import Catalog, RecipeEntry, SchemeEntry
from qzoo.schema.reading.loading import dump_json, dump_yaml, load_recipe, parse_recipe
from qzoo.schema.reading.sources import PythonRecipe
from qzoo.schema.recipe import Recipe, Scheme, Variant
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

CATALOG = Catalog.load()
HEAD = "base: {source: timm, architecture: resnet18}\ndataset: imagenet-1k\n"


@for_each("entry", lambda: CATALOG.entries, ids=lambda entry: entry.name)
def test_every_variant_has_its_digest_without_shared_schemes(entry: RecipeEntry) -> None:
    for variant in entry.variants:
        recipe = entry.self_contained(variant)
        assert parse_recipe(dump_yaml(recipe)) == parse_recipe(dump_json(recipe)) == recipe
        alone = RecipeEntry.from_recipe(recipe, entry.name)
        inside = {name: scheme for name, scheme in alone.schemes.items() if name in recipe.schemes}
        bare = RecipeEntry(entry.name, recipe, PythonRecipe(), {}, inside)
        assert resolve(bare, variant).digest == resolve(entry, variant).digest


def test_claims_that_compare_with_a_variant_left_out_are_left_out() -> None:
    entry = CATALOG.find("resnet50")[0]
    recipe = entry.self_contained("int8_p999")
    assert list(recipe.variants) == entry.recipe.chain("int8_p999")
    assert all(claim.top1_below is None for claim in recipe.variants["int8_p999"].published)


def test_so_are_claims_of_the_float_model() -> None:
    entry = CATALOG.find("resnet8_digits")[0]
    content = entry.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = {"top1": 97.0, "source": "somebody, somewhere"}
    content["published"] = [kept, {"top1_below": "w4a4", "source": "somebody, somewhere"}]
    recipe = Recipe.model_validate_json(json.dumps(content))
    (claim,) = RecipeEntry.from_recipe(recipe, "x").self_contained("int8").published
    assert claim.top1 == 97.0


@pytest.mark.parametrize("name", ["timm/resnet18:int8", "timm/resnet18:int8_residual"])
def test_models_of_a_library_have_one_too(name: str) -> None:
    entry, variant = CATALOG.find(name)
    assert variant is not None
    alone = RecipeEntry.from_recipe(entry.self_contained(variant), entry.name)
    assert resolve(alone, variant).digest == resolve(entry, variant).digest


def test_shared_schemes_of_the_same_names_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOG.find("resnet8_digits")[0]
    variants = {name: entry.self_contained(name) for name in entry.variants}
    digests = {name: resolve(entry, name).digest for name in variants}
    # Where the catalogue has been changed meanwhile, or is another one.
    other = Scheme.model_validate({"rules": [{"match": {"type": "Linear"}, "weight": {"bits": 3}}]})
    shadow = {name: SchemeEntry(other, "elsewhere", {}) for name in CATALOG.schemes}
    monkeypatch.setattr(Catalog, "schemes", shadow)
    for name, recipe in variants.items():
        assert resolve(RecipeEntry.from_recipe(recipe, "x"), name).digest == digests[name]
        assert resolve(replace(entry, schemes=shadow), name).digest != digests[name]


def test_a_scheme_that_no_variant_takes_may_be_missing() -> None:
    base = CATALOG.find("resnet8_digits")[0].recipe.base
    recipe = Recipe(base=base, dataset="digits", scheme="nowhere", variants={"a": Variant(scheme="int8")})
    assert list(RecipeEntry.from_recipe(recipe, "x").self_contained("a").schemes) == ["int8"]


FIELDS = st.fixed_dictionaries({}, optional={"bits": st.integers(2, 16), "calibrator": st.sampled_from(["max", "mse"])})
VARIANTS = st.fixed_dictionaries(
    {},
    optional={
        "scheme": st.sampled_from(["int8", "fp8", "mine"]), "weight": FIELDS | st.just(False), "input": FIELDS,
        "output": FIELDS | st.just(False), "residual": st.sampled_from(["skip", "both", "none"]),
        "calibration": st.fixed_dictionaries({}, optional={"images": st.just(1024), "seed": st.integers(0, 2)}),
        "rules": st.just([{"match": {"name": "fc"}, "input": False}]),
    },
)  # fmt: skip


@given(st.lists(VARIANTS, min_size=3, max_size=3))
def test_any_chain_of_variants_is_the_same_alone(written: list[dict[str, Any]]) -> None:
    chain = [{"from": f"v{n - 1}"} | each if n else each for n, each in enumerate(written)]
    mine = {"rules": [{"match": {"type": "Linear"}, "weight": {"bits": 3}}]}
    content = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "cifar10", "schemes": {"mine": mine}}
    variants = {f"v{n}": each for n, each in enumerate(chain)}
    entry = RecipeEntry.from_recipe(parse_recipe(json.dumps(content | {"variants": variants})), "x")
    digest, recipe = resolve(entry, "v2").digest, entry.self_contained("v2")
    loaded = parse_recipe(dump_yaml(recipe))
    assert loaded == recipe
    assert resolve(RecipeEntry.from_recipe(loaded, "x"), "v2").digest == digest


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="has no variant 'int7'"):
        CATALOG.find("resnet50")[0].self_contained("int7")


def write(folder: Path, text: str) -> Path:
    (folder / "my.yaml").write_text(HEAD + text)
    return folder / "my.yaml"


def test_a_scheme_inside_goes_before_a_shared_one(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "schemes:\n  int8: {rules: [{match: {type: Linear}, weight: {bits: 3}}]}\nvariants: {int8: {}}\n",
    )
    entry, _ = CATALOG.find(str(path))
    (rule,) = resolve(entry, "int8").rules
    assert str(rule).startswith("Linear: weight bits 3")
    assert rule.origin.line == 4
    assert rule.origin.file.endswith("my.yaml")


def test_a_mistake_inside_a_scheme_has_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "schemes:\n  mine:\n    rules:\n    - match: {type: Linear}\n      wieght: {bits: 3}\nvariants: {int8: {}}\n",
    )
    with pytest.raises(RecipeError, match=r"my\.yaml:7: schemes\.mine\.rules\.0\.wieght: .*weight"):
        load_recipe(path)


def test_an_unknown_scheme_is_looked_for_inside_too(tmp_path: Path) -> None:
    path = write(
        tmp_path, "schemes: {mine: {rules: [{match: {type: Linear}, weight: {}}]}}\nscheme: mein\nvariants: {a: {}}\n"
    )
    with pytest.raises(RecipeError, match=r"unknown scheme 'mein'\. Did you mean 'mine'\?"):
        CATALOG.find(str(path))
