"""A recipe of one variant with its schemes inside says the same without any other file."""

from __future__ import annotations

from pathlib import Path

import pytest

from qzoo.errors import RecipeError, UnknownNameError
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.loading import dump_json, dump_yaml, load_recipe, parse_recipe
from qzoo.schema.resolve import resolve

CATALOG = Catalog.load()
HEAD = "base: {source: timm, architecture: resnet18}\ndataset: imagenet-1k\n"


@pytest.mark.parametrize("entry", CATALOG.entries, ids=lambda entry: entry.name)
def test_every_variant_has_its_digest_without_shared_schemes(entry: RecipeEntry) -> None:
    for variant in entry.variants:
        recipe = entry.self_contained(variant)
        assert parse_recipe(dump_yaml(recipe)) == parse_recipe(dump_json(recipe)) == recipe
        alone = RecipeEntry.from_recipe(recipe, entry.name)
        inside = {name: scheme for name, scheme in alone.schemes.items() if name in recipe.schemes}
        bare = RecipeEntry(entry.name, recipe, None, {}, inside)
        assert resolve(bare, variant).digest == resolve(entry, variant).digest


def test_claims_that_compare_with_a_variant_left_out_are_left_out() -> None:
    entry = CATALOG.find("resnet50")[0]
    recipe = entry.self_contained("int8_p999")
    assert list(recipe.variants) == entry.recipe.chain("int8_p999")
    assert all(claim.top1_below is None for claim in recipe.variants["int8_p999"].published)


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
