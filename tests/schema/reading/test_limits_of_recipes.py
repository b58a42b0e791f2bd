"""Limits of what a recipe may hold: the same for YAML, JSON and Python."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.errors import QzooError, RecipeError, RuleError
from qzoo.schema.limits import oversized
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import load_recipe, parse_recipe
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Layer
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

HEAD: dict[str, Any] = {
    "base": {"source": "timm", "architecture": "resnet18"},
    "dataset": "imagenet-1k",
    "variants": {"int8": {}},
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def holding_itself() -> dict[str, Any]:
    data = dict(HEAD)
    data["variants"] = {"int8": {"rules": [data]}}
    return data


TOO_MUCH: dict[str, tuple[dict[str, Any], str]] = {
    "digits": ({"version": 10**4999}, "digits"),
    "negative": ({"version": -(10**4999)}, "digits"),
    "deep": ({"x": nested(990)}, "is nested deeper than 30 levels"),
    "surrogate": ({"description": "\ud800"}, "half a character"),
    "name": ({"dataset": "a\udfff"}, "half a character"),
    "key": ({"variants": {"a\ud800": {}}}, "which is no text"),
    "long": ({"description": "x" * 10_001}, "is a text of 10,001 signs; at most 10,000 are taken"),
    "list": ({"published": [{}] * 1001}, "is a list of 1,001; at most 1,000 are taken"),
    "mapping": ({str(n): 1 for n in range(5001)}, "is a mapping of 5,004 keys; at most 5,000 are taken"),
}


@for_each("case", TOO_MUCH)
@for_each("way", ["json", "json of other tools", "python"])
def test_one_limit_for_each_way(case: str, way: str) -> None:
    change, message = TOO_MUCH[case]
    data = {**HEAD, **change}
    if way == "python":
        with pytest.raises(ValidationError, match=message):
            Recipe.model_validate(data)
        return
    # Python itself does not write whole numbers of so many digits.
    written = {"digits": "9" * 5000, "negative": "-" + "9" * 5000, "deep": "[" * 990 + "]" * 990}.get(case, "")
    marked = {**data, **{name: "HERE" for name in change if written}}
    text = json.dumps(marked, indent="\t" if way == "json of other tools" else None).replace('"HERE"', written)
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "my.json")
    assert str(caught.value).startswith("my.json")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()
    # YAML, which reads most of JSON, has words of its own for these.
    own = {"digits": "which is no int", "negative": "which is no int", "surrogate": "half a", "key": "half a"}
    assert message in str(caught.value) or own.get(case, "half a character") in str(caught.value)


def test_a_dict_that_holds_itself() -> None:
    with pytest.raises(ValidationError, match="nested deeper than 30 levels"):
        Recipe.model_validate(holding_itself())


def test_what_is_large_and_fine_passes() -> None:
    data = {**HEAD, "version": 10**99, "description": "x" * 10_000}
    assert list(oversized(data)) == []
    assert parse_recipe(json.dumps(data)) == Recipe.model_validate(data)


def test_text_beyond_a_file_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"my\.json has 1.1 MB; a recipe has at most 1 MB"):
        parse_recipe("{" + " " * 1_100_000 + "}", "my.json")
    with pytest.raises(RecipeError, match=r"my\.yaml is no text: it holds half a character"):
        parse_recipe("a: \ud800", "my.yaml")


def test_thousands_of_keys_are_told_of_in_seconds(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe("variants:\n  a:\n" + "".join(f"    inpu{n}: 1\n" for n in range(4999)))
    began = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert time.perf_counter() - began < 5
    assert str(caught.value).endswith("my.yaml: and 4969 problems more.")
    assert len(str(caught.value)) < 10_000


def test_rules_multiplied_by_from_are_counted(write_recipe: Callable[[str], Path]) -> None:
    rules = "".join("    - {match: {name: fc}, input: false}\n" for _ in range(100))
    chain = "".join(f"  v{n + 1}: {{from: v{n}}}\n" for n in range(120))
    with pytest.raises(RecipeError, match=r"my\.yaml:3: variants: 12,100 rules, those of schemes and"):
        load_recipe(write_recipe(f"variants:\n  v0:\n    rules:\n{rules}{chain}"))


def test_rules_that_match_nothing_are_told_of_in_seconds() -> None:
    layers = [Layer(f"layer{n}.{m}.conv1", ("Conv2d",), True) for n in range(40) for m in range(10)]
    rules = [{"match": {"name": [f"no{n}_{m}*a*a*a*b" for m in range(20)]}, "input": False} for n in range(1000)]
    recipe = Recipe.model_validate({**HEAD, "variants": {"int8": {"rules": rules}}})
    variant = resolve(RecipeEntry.from_recipe(recipe, "mine"), "int8")
    began = time.perf_counter()
    with pytest.raises(RuleError) as caught:
        bind(variant, layers)
    assert time.perf_counter() - began < 30
    lines = str(caught.value).split("\n")
    assert len(lines) == 21
    assert "'no0_0*a*a*a*b', 'no0_1*a*a*a*b'" in lines[0]
    assert "and 15 more. Nearest: " in lines[0]
    assert lines[-1] == "<recipe>: and 980 more rules of mine_int8 match nothing."
    assert len(caught.value.faults) == 20


def test_a_glob_of_many_stars_takes_no_time() -> None:
    rule = {"match": {"name": "*a" * 3000 + "b"}, "input": False}
    recipe = Recipe.model_validate({**HEAD, "variants": {"int8": {"rules": [rule]}}})
    began = time.perf_counter()
    with pytest.raises(RuleError, match="matches nothing"):
        bind(resolve(RecipeEntry.from_recipe(recipe, "mine"), "int8"), [Layer("a" * 300, ("Linear",), True)])
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("glob", ["*[a-z]", "?", "*x?"])
def test_long_globs_that_no_name_can_match_are_not_compiled(glob: str) -> None:
    rules = [{"match": {"name": f"{glob * (9_000 // len(glob))}{n}"}, "input": False} for n in range(100)]
    recipe = Recipe.model_validate({**HEAD, "variants": {"int8": {"rules": rules}}})
    began = time.perf_counter()
    with pytest.raises(RuleError, match="and 80 more rules"):
        bind(resolve(RecipeEntry.from_recipe(recipe, "mine"), "int8"), [Layer("layer1.conv1", ("Linear",), True)])
    assert time.perf_counter() - began < 3


NUMBERS = [0, -1, 10**30, 10**4000, 1e308, -0.0, float("nan"), float("inf"), 2**63, 0.9999]
TEXTS = ["", "\ud800", "\x00", "\x1b[2J", "\u202e", "x" * 20_000, "[red]", "null", "a\nb", "\U0001f600", "*a" * 400]
DEEP, LONG = "written as 990 lists", "written as 5,000 digits"
OTHERS = [None, True, [], {}, [[]], {"": 1}, nested(40), DEEP, LONG, [1] * 2000, {"a\udc00": 1}]


def damaged(data: Any, chance: random.Random) -> Any:
    """Returns data with one value of some depth replaced, left out, or put under another key."""
    if not isinstance(data, dict | list) or not data or chance.random() < 0.2:
        return chance.choice(chance.choice([NUMBERS, TEXTS, OTHERS]))
    if isinstance(data, list):
        place = chance.randrange(len(data))
        return [*data[:place], damaged(data[place], chance), *data[place + 1 :]]
    key, kind = chance.choice(list(data)), chance.randrange(4)
    changed = {name: value for name, value in data.items() if kind != 0 or name != key}
    if kind == 1:
        changed[chance.choice([*TEXTS, key[:-1], f"{key}s"])] = data[key]
    if kind >= 2:
        changed[key] = damaged(data[key], chance)
    return changed


def as_text(data: Any, chance: random.Random) -> str:
    text = json.dumps(data, indent=chance.choice([None, 1, "\t"]), ensure_ascii=chance.random() < 0.7)
    text = text.replace(f'"{DEEP}"', "[" * 990 + "]" * 990).replace(f'"{LONG}"', "7" * 5000)
    if chance.random() < 0.3:
        place = chance.randrange(len(text))
        text = (
            text[:place] + chance.choice(["", "{", "9" * 5000, "[" * 5000, "\\ud800", '"', "\x00", "\t"]) + text[place:]
        )
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_json_recipes_get_one_message_each() -> None:
    recipes = [entry.recipe.model_dump_json(by_alias=True, exclude_none=True) for entry in Catalog.load().entries]
    shipped = [*map(json.loads, recipes)]
    chance, refused = random.Random(15), 0
    for _ in range(300):
        data = chance.choice(shipped)
        for _ in range(chance.randrange(1, 4)):
            data = damaged(data, chance)
        text = as_text(data, chance)
        began = time.perf_counter()
        try:
            recipe = parse_recipe(text, "fuzzed.json")
        except QzooError as error:
            refused += 1
            said = str(error)
            assert said.replace("\n", "").isprintable()
            assert said.startswith("fuzzed.json")
            assert len(said) < 20_000
        else:
            # What is taken can be written, read back and resolved.
            assert parse_recipe(recipe.model_dump_json(by_alias=True, exclude_none=True)) == recipe
            entry = RecipeEntry.from_recipe(recipe, "fuzzed")
            for name in entry.variants:
                with contextlib.suppress(QzooError):
                    assert len(resolve(entry, name).digest) == 64
        assert time.perf_counter() - began < 10
    assert refused > 150


@pytest.mark.parametrize(
    "residual",
    [10**5000, {"bits": 10**5000}, nested(40), "\ud800", {"placement": "\ud800"}],
    ids=lambda said: type(said).__name__,
)
def test_what_python_code_says_of_residuals_is_bounded(residual: Any) -> None:
    variant = resolve(Catalog.load().find("resnet8_digits")[0], "int8")
    with pytest.raises(RuleError, match=r"^residual") as caught:
        with_call(variant, residual=residual)
    assert str(caught.value).isprintable()
