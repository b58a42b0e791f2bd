"""What README and docs show works as shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from qzoo.cli.subcommands import SUBCOMMANDS
from qzoo.models.bases import meta_model
from qzoo.models.select_layers import plan_quantizers
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import parse_recipe
from qzoo.schema.recipe import Variant
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "recipes.md"], ids=lambda page: page.name)
def test_recipes_bind_to_their_models(page: Path) -> None:
    (text,) = (block for block in blocks(page, "yaml") if "\nbase:" in block)
    entry = RecipeEntry.from_recipe(parse_recipe(text), "shown")
    for name in entry.variants:
        variant = resolve(entry, name)
        assert plan_quantizers(meta_model(variant.base), variant).quantizers


@for_each("page", PAGES, ids=lambda page: page.name)
def test_rules_that_are_shown_are_rules(page: Path) -> None:
    for text in blocks(page, "yaml"):
        if text.startswith("rules:"):
            assert Variant.model_validate(yaml.safe_load(text)).rules


def test_the_recipe_of_the_readme_has_ten_lines_or_fewer() -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    assert len([line for line in text.splitlines() if not line.startswith("#")]) <= 10


def test_the_table_of_the_demo_is_that_of_the_recipe() -> None:
    shown = (ROOT / "README.md").read_text().partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
    recipe = Catalog.load().find("resnet8_digits")[0].recipe
    rows = {words[0]: words for words in (line.split() for line in shown.splitlines()) if len(words) > 5}
    calibrated = {name: variant.published for name, variant in recipe.variants.items() if variant.finetune is None}
    for name, claims in {"float": recipe.published, **calibrated}.items():
        assert f"{claims[0].top1:.2f}" in rows[name], f"{name}: run `make demo` and put its table into README.md"


@for_each("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_on_batches_runs() -> None:
    told: dict[str, Any] = {}
    for text in blocks(ROOT / "docs" / "batches.md", "python"):
        exec(text, told)
    assert told["model"].image.input_quantizer.calibrated


@for_each("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    known = set(SUBCOMMANDS)
    used = set(re.findall(r"^\s*qzoo (\w+)", "\n".join(blocks(page, "bash")), flags=re.M))
    assert used <= known
