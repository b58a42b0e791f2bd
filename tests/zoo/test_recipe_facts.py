"""`recipes/facts.json` is current."""

from __future__ import annotations

import pytest

from qzoo import environment
from qzoo.schema.reading.catalog import Catalog
from qzoo.zoo.facts import FILE, known_facts, recipe_files
from qzoo.zoo.recipe_facts import completed, facts_of, shipped_facts, text_of

STALE = "recipes/facts.json is stale: run `make style`"


def test_there_are_facts_of_every_shipped_recipe_in_its_present_state() -> None:
    files = recipe_files()
    assert [name for name, state in files.items() if known_facts(name, state.digest) is None] == [], STALE


@pytest.mark.parametrize("name", ["resnet8_digits", "resnet20_cifar10", "mobilenet_v2", "deit_tiny_patch16_224"])
def test_they_are_what_comes_of_the_recipe_and_the_model(name: str) -> None:
    state = recipe_files()[name].digest
    entry = Catalog.load().recipes[name]
    assert known_facts(name, state) == completed(entry, facts_of(entry, state)), (
        f"{STALE}, or where qzoo computes otherwise now: python -m qzoo.zoo.recipe_facts --all"
    )


@pytest.mark.slow
def test_all_of_them_are() -> None:
    assert environment.packaged(FILE).read_text() == text_of(dict(shipped_facts(anew=True)))
