from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qzoo.errors import RecipeError
from qzoo.schema.reading.loading import dump_yaml, load_recipe, parse_recipe
from qzoo.schema.recipe import Recipe

HEAD: dict[str, Any] = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "imagenet-1k"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("log", "the log of somebody"),
        ("run(15 epochs)", "a run of 15 epochs, 2026"),
        ("run()", "a run of , 2026"),
        ("the log, a copy", "the log, a copy"),
        ("https://example.com/log", "https://example.com/log"),
    ],
)
def test_a_source_has_a_name_or_is_a_text(source: str, text: str) -> None:
    sources = {"log": "the log of somebody", "run": "a run of {}, 2026"}
    claim = {"top1": 76.1, "source": source}
    variants = {"a": {"published": [claim, claim]}, "b": {}}
    recipe = Recipe.model_validate({**HEAD, "sources": sources, "published": claim, "variants": variants})
    assert {one.source for one in (*recipe.published, *recipe.variants["a"].published)} == {text}
    assert recipe.sources == {}
    assert parse_recipe(dump_yaml(recipe)) == recipe


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lgo", "published.source: unknown source 'lgo'. Did you mean 'log'? Known: log, run."),
        ("tutorials", "published.source: unknown source 'tutorials'. Known: log, run."),
        ("rnu(1)", "published.source: unknown source 'rnu'. Did you mean 'run'? Known: log, run."),
        ("run", "published.source: the text of 'run' has a {}. Say what stands there: `run(...)`."),
        ("log(1)", "published.source: the text of 'log' has no {} in place of which '1' could stand. Say `log`."),
    ],
)
def test_a_word_that_names_no_source(write_recipe: Callable[[str], Path], source: str, message: str) -> None:
    sources = 'sources: {log: "the log of somebody", run: "a run of {}, 2026"}\nvariants: {a: {}}\n'
    path = write_recipe(f"published: {{top1: 1, source: {source}}}\n{sources}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"my.yaml:3: {message}"


def test_a_word_is_a_text_where_no_sources_are_named() -> None:
    recipe = Recipe.model_validate({**HEAD, "published": {"top1": 1, "source": "somebody"}, "variants": {"a": {}}})
    assert recipe.published[0].source == "somebody"
