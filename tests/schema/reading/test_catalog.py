from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qzoo
from qzoo import environment
from qzoo.errors import QzooError, RecipeError, UnknownNameError
from qzoo.schema.reading import yaml_source
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.recipe_folders import FaultyRecipeWarning
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import resolve

RECIPE = (
    "base: {source: timm, architecture: resnet18}\ndataset: imagenet-1k\nvariants: {int8: {}, fp8: {scheme: fp8}}\n"
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of `QZOO_RECIPES`, empty; the current folder is its parent."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QZOO_RECIPES", str(folder))
    return folder


def write(path: Path, text: str = RECIPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_shipped_file_is_an_entry_and_every_full_name_finds_it() -> None:
    catalog = Catalog.load()
    assert [entry.name for entry in catalog.entries] == sorted(catalog.recipes)
    for name in catalog.names():
        entry, variant = catalog.find(name)
        assert name == (entry.name if variant is None else f"{entry.name}_{variant}")
    assert len(catalog.names()) == sum(1 + len(entry.variants) for entry in catalog.entries)


@pytest.mark.parametrize("file", ["my_net.yaml", "my_net.yml", "deep/er/my_net.yaml"])
def test_the_file_is_the_registration(mine: Path, file: str) -> None:
    write(mine / file)
    catalog = Catalog.load()
    assert catalog.find("my_net_int8") == (catalog.find("my_net")[0], "int8")
    assert "resnet50_int8" in catalog.names()


def test_a_scheme_of_my_own_is_known(mine: Path) -> None:
    write(mine / "schemes" / "int6.yaml", "rules: [{match: {type: Linear}, weight: {bits: 6}}]")
    write(mine / "my_net.yaml", RECIPE + "scheme: int6\n")
    entry, _ = Catalog.load().find("my_net")
    assert entry.schemes["int6"].scheme.rules[0].match.type == ["Linear"]


@pytest.mark.parametrize(("name", "variant"), [("my.yaml", None), ("my.yaml:fp8", "fp8"), ("a:b/my.yml:int8", "int8")])
def test_a_path_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variant: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("my.yaml", "a:b/my.yml"):
        write(tmp_path / file)
    entry, found = Catalog.load().find(name)
    assert (entry.name, found) == ("my", variant)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50_int9", "Unknown model 'resnet50_int9'. Did you mean 'resnet50_int8'? Also near: resnet50_"),
        ("resnet5O", "Did you mean 'resnet50'?"),
        ("", "Unknown model ''. Known: "),
        ("my.yaml:int9", "my.yaml has no variant 'int9'. Did you mean 'int8'? Known: fp8, int8."),
        ("my.yaml:", "my.yaml has no variant ''."),
        ("ym.yaml", "There is no recipe file ym.yaml. Did you mean 'my.yaml'? `qzoo list` shows the known recipes."),
        ("nowhere/my.yaml:int8", "There is no recipe file nowhere/my.yaml."),
    ],
)
def test_unknown_names(write_recipe: Callable[[str], Path], name: str, message: str) -> None:
    write_recipe("variants: {int8: {}, fp8: {}}")
    with pytest.raises(QzooError) as caught:
        Catalog.load().find(name)
    assert message in str(caught.value)
    assert isinstance(caught.value, RecipeError if "no recipe file" in message else UnknownNameError)


def test_two_files_of_one_name(mine: Path) -> None:
    write(mine / "a" / "net.yaml")
    write(mine / "b" / "net.yml")
    files = f"mine{os.sep}a{os.sep}net.yaml and mine{os.sep}b{os.sep}net.yml"
    with pytest.raises(RecipeError) as caught:
        Catalog.load().find("net_int8")
    assert str(caught.value) == f"Two files define the recipe 'net': {files}. Rename one."
    assert Catalog.load().find("resnet50_int8")[1] == "int8"


def test_two_schemes_of_one_name(mine: Path) -> None:
    write(mine / "schemes" / "int8.yaml", "rules: [{match: {type: Linear}, weight: {bits: 6}}]")
    with pytest.raises(
        RecipeError, match=r"Two files define the scheme 'int8': .*int8.yaml and .*int8.yaml. Rename one."
    ):
        resolve(Catalog.load().recipes["resnet50"], "int8")
    assert Catalog.load().find("resnet50_int8")[1] == "int8"


def test_a_base_named_like_anothers_variant(mine: Path) -> None:
    write(mine / "net.yaml")
    write(mine / "net_int8.yaml")
    with pytest.raises(
        RecipeError, match=r"The name 'net_int8' stands for two: in .*net\.yaml and in .*net_int8\.yaml\. Rename"
    ):
        Catalog.load().find("net_int8")


def test_a_folder_named_twice_counts_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(mine / "deep" / "net.yaml")
    monkeypatch.setenv("QZOO_RECIPES", os.pathsep.join([str(mine), str(mine / "deep"), f"{mine}/"]))
    assert "net_fp8" in Catalog.load().names()


@pytest.mark.parametrize(("folder", "fault"), [("nowhere", "does not exist"), ("file", "is no folder")])
def test_a_missing_folder(mine: Path, monkeypatch: pytest.MonkeyPatch, folder: str, fault: str) -> None:
    (mine / "file").touch()
    monkeypatch.setenv("QZOO_RECIPES", str(mine / folder))
    with pytest.raises(RecipeError) as caught:
        Catalog.load().names()
    assert str(caught.value) == f"The recipe folder {mine / folder} {fault}. Correct or unset QZOO_RECIPES."


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("net.yaml", "variants: {}", "net.yaml:1: base: this field is missing."),
        ("net.yaml", RECIPE + "scheme: int9\n", "net.yaml:4: scheme: unknown scheme 'int9'. Did you mean 'int8'?"),
        (
            "schemes/mine.yaml",
            "rules: [{match: {type: Linear}, weight: {bitz: 6}}]",
            "mine.yaml:1: rules.0.weight.bitz: unknown",
        ),
        (
            "schemes/mine.yaml",
            "",
            "mine.yaml holds nothing; a scheme is a mapping with some of the keys description, residual, rules.",
        ),
    ],
)
def test_a_faulty_file_is_told_of_by_who_needs_it_and_stops_no_other_name(
    mine: Path, file: str, text: str, message: str
) -> None:
    write(mine / "net.yaml", RECIPE + "scheme: mine\n")
    write(mine / file, text)
    with pytest.raises(RecipeError) as caught:
        resolve(Catalog.load().find("net_int8")[0], "int8")
    assert message in str(caught.value)
    assert Catalog.load().find("resnet50_int8")[1] == "int8"


def test_a_file_that_can_not_be_read_is_left_out_of_lists(mine: Path) -> None:
    write(mine / "half.yaml", "base: {source: timm, archi")
    with pytest.warns(FaultyRecipeWarning, match=r"half\.yaml is left out: `qzoo validate .*half\.yaml` says what"):
        assert "resnet50_int8" in Catalog.load().names()
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50_int8'"), pytest.warns(FaultyRecipeWarning):
        Catalog.load().find("resnet50_int9")
    with pytest.raises(RecipeError, match=r"half\.yaml:2 is not YAML"):
        Catalog.load().find("half_int8")


def test_a_name_costs_the_files_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    known = yaml_source.parse_yaml

    def counted(text: str, where: str) -> Any:
        read.append(where)
        return known(text, where)

    monkeypatch.setattr(yaml_source, "parse_yaml", counted)
    catalog = Catalog([environment.packaged()])
    assert resolve(catalog.find("resnet50_int8")[0], "int8").digest
    assert len(read) <= 3, read


def test_a_recipe_made_in_python_has_an_entry(mine: Path) -> None:
    recipe = Recipe.model_validate(
        {"base": {"source": "timm", "architecture": "x"}, "dataset": "y", "variants": {"a": {}}}
    )
    entry = RecipeEntry.from_recipe(recipe, "mine")
    assert (entry.where, entry.variants, set(entry.schemes) >= {"int8", "fp8"}) == ("<recipe>", ["a"], True)


def test_what_was_read_is_kept_until_a_file_changes(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(mine / "my_net.yaml")
    assert "my_net_fp8" in Catalog.load().names()
    with monkeypatch.context() as nothing_is_read:
        nothing_is_read.setattr("qzoo.schema.reading.loading.read_yaml", None)
        nothing_is_read.setattr("qzoo.schema.reading.catalog.read_yaml", None)
        assert "my_net_fp8" in Catalog.load().names()
    write(path, RECIPE.replace("fp8: {scheme: fp8}", "int4: {}"))
    assert "my_net_int4" in Catalog.load().names()
    assert "my_net_fp8" not in Catalog.load().names()
    write(mine / "another.yaml")
    assert "another_fp8" in Catalog.load().names()
    path.unlink()
    assert "my_net" not in Catalog.load().names()


def test_a_recipe_that_is_written_to_is_nobody_elses() -> None:
    recipe = qzoo.recipe("resnet8_digits")
    recipe.variants.clear()
    assert "int8" in qzoo.recipe("resnet8_digits").variants


def test_a_link_to_nowhere_is_told_by_its_name(mine: Path) -> None:
    (mine / "lost.yaml").symlink_to(mine / "nowhere.yaml")
    with pytest.raises(RecipeError, match=r"lost\.yaml"):
        Catalog.load().find("lost")
