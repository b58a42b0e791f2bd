from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import RecipeError
from qzoo.schema.quantizer import Calibrator
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.reading.loading import MOST_PROBLEMS, dump_json, dump_yaml, load_recipe, parse_recipe
from qzoo.schema.recipe import Recipe
from tests.each import for_each

# Words that look like something else, and text of every kind.
words = st.sampled_from(["no", "8", "1e5", "null", "true", "2026-11-24", "\U0001f600", "a: b", "#"]) | st.text(
    min_size=1
)
names = st.from_regex(r"[a-z0-9][a-z0-9_.]{0,6}", fullmatch=True)
percents = st.floats(0, 100, exclude_min=True) | st.integers(1, 100)
calibrators = st.sampled_from(["max", "mse", "entropy"]) | st.builds(lambda p: {"percentile": p}, percents)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


signs = st.sampled_from([True, False, "auto"])
activation = some(bits=st.integers(2, 16), per=st.just("tensor"), unsigned=signs, calibrator=calibrators)
fp8 = some(format=st.sampled_from(["e4m3", "e5m2"]), calibrator=calibrators)
weight = some(bits=st.integers(2, 16), per=st.sampled_from(["tensor", "channel"]), narrow=st.booleans())
fields = {
    "weight": st.just(False) | weight | fp8,
    "input": st.just(False) | activation | fp8,
    "output": st.just(False) | fp8,
}
globs = words | st.lists(words, min_size=1, max_size=3)
matches = some(name=globs, type=globs).filter(bool)
rules = st.builds(
    lambda match, said, why: {"match": match, **said, **why}, matches, some(**fields).filter(bool), some(why=words)
)
claims = st.builds(
    lambda claim, source: {**claim, "source": source},
    some(top1=percents, top1_at_least=percents).filter(bool),
    st.text(min_size=8, max_size=20),
)
residuals = st.sampled_from(["skip", "both", "none", False]) | st.builds(
    lambda said: {"placement": "both", **said}, activation
)
calibrations = some(
    split=words, images=st.integers(1), seed=st.integers(0), transform=st.sampled_from(["eval", "train"])
)
variants = some(
    description=words,
    scheme=words,
    **fields,
    residual=residuals,
    rules=st.lists(rules, max_size=2),
    calibration=calibrations,
    finetune=st.fixed_dictionaries({"epochs": st.integers(1, 90), "lr": st.floats(1e-9, 10)}),
    published=claims | st.lists(claims, max_size=2),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    made: dict[str, Any] = draw(st.dictionaries(names, variants, min_size=1, max_size=3))
    oldest_first = list(made)
    for n, name in enumerate(oldest_first[1:], start=1):
        if draw(st.booleans()):
            made[name]["from"] = draw(st.sampled_from(oldest_first[:n]))
    base = {"source": draw(st.sampled_from(["timm", "torchvision", "qzoo"])), "architecture": draw(words)}
    extra = draw(
        some(version=st.integers(1), description=words, published=claims, scheme=words, calibration=calibrations)
    )
    return Recipe.model_validate({"base": base, "dataset": draw(words), "variants": made, **extra})


@for_each("text", ["\x85", "a\u2028b", "\u2029 c", "a\nb", "± ok", " x", "\ufeff", "'", '"'])
def test_any_text_comes_back(text: str) -> None:
    recipe = Recipe.model_validate(
        {"base": {"source": "timm", "architecture": "x"}, "dataset": text, "variants": {"v": {"description": text}}}
    )
    assert_comes_back(recipe)


def assert_comes_back(recipe: Recipe) -> None:
    assert parse_recipe(dump_yaml(recipe)) == recipe
    assert parse_recipe(dump_json(recipe)) == recipe
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json(by_alias=True)) == recipe


@given(recipes())
def test_recipes_come_back_from_yaml_json_and_python(recipe: Recipe) -> None:
    assert_comes_back(recipe)


@for_each("entry", lambda: Catalog.load().entries, ids=lambda entry: entry.name)
def test_shipped_recipes_come_back(entry: Any) -> None:
    assert_comes_back(entry.recipe)


def test_json_of_other_tools_is_read() -> None:
    recipe = parse_recipe(dump_yaml(Catalog.load().entries[0].recipe))
    text = json.dumps(json.loads(dump_json(recipe)) | {"description": "\U0001f600/"}, indent="\t").replace("/", r"\/")
    assert parse_recipe(text) == recipe.model_copy(update={"description": "\U0001f600/"})
    with pytest.raises(RecipeError, match=r"<text> has the key 'a' twice\. Keep one\."):
        parse_recipe(r'{"a": "\ud83d\ude00", "a": 1}')


def test_two_spellings_are_one_recipe() -> None:
    head = "base: {source: timm, architecture: resnet18}\ndataset: imagenet-1k\n"
    short = parse_recipe(head + "variants: {a: {input: {calibrator: max}, residual: skip}}")
    long = parse_recipe(head + "variants: {a: {input: {calibrator: {method: max}}, residual: {placement: skip}}}")
    assert short == long
    assert short.variants["a"].input.calibrator == Calibrator(method="max")  # type: ignore[union-attr]


def test_all_problems_of_a_file_are_reported_together(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe(
        "versoin: 1\n"
        "scheme: int9\n"
        "variants:\n"
        "  int8: {input: {bits: 17}, weight: true}\n"
        "  b:\n"
        "    from: int9\n"
        "    published: {top1_below: c, top1: 3}\n"
        "    rules:\n"
        "      - {match: {name: fc}, input: {calibrator: maxx}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["int8", "fp8"])
    lines = str(caught.value).splitlines()
    places = [line.split(": ")[:2] for line in lines]
    assert places == [
        ["my.yaml:3", "versoin"],
        ["my.yaml:4", "scheme"],
        ["my.yaml:6", "variants.int8.input.bits"],
        ["my.yaml:6", "variants.int8.weight"],
        ["my.yaml:8", "variants.b.from"],
        ["my.yaml:9", "variants.b.published.source"],
        ["my.yaml:9", "variants.b.published.top1_below"],
        ["my.yaml:11", "variants.b.rules.0.input.calibrator"],
    ]
    assert "Did you mean 'version'?" in lines[0]


def test_one_problem_is_one_line(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe("variants: {int8: {}, b: {from: int9}}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    known = "unknown variant 'int9'. Did you mean 'int8'? Known: b, int8."
    assert str(caught.value) == f"my.yaml:3: variants.b.from: {known}"


def test_many_problems_are_cut_short(write_recipe: Callable[[str], Path]) -> None:
    path = write_recipe("variants:\n" + "".join(f"  v{n}: {{bitz: 8}}\n" for n in range(250)))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_PROBLEMS + 1
    assert lines[-1] == f"my.yaml: and {250 - MOST_PROBLEMS} problems more."


def test_a_recipe_that_would_take_minutes_is_refused_at_once(write_recipe: Callable[[str], Path]) -> None:
    chain = "".join(f"  v{n + 1}: {{from: v{n}}}\n" for n in range(3000))
    with pytest.raises(
        RecipeError, match=r"variants: 3,001 variants; a recipe has at most 300\. Write several recipes"
    ):
        load_recipe(write_recipe("variants:\n  v0: {}\n" + chain))
    wrong = "".join(f"  {'x' * 90}{n}: {{from: {'y' * 150}{n}}}\n" for n in range(199))
    start = time.perf_counter()
    with pytest.raises(RecipeError, match="unknown variant"):
        load_recipe(write_recipe("variants:\n" + wrong))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("text", "kind"), [("", "nothing"), ("# a comment", "nothing"), ("[a]", "a list"), ("word", "a text")]
)
def test_what_is_no_mapping_is_told_what_a_recipe_is(text: str, kind: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "my.yaml")
    assert str(caught.value).startswith(f"my.yaml holds {kind}; a recipe is a mapping with some of the keys version, ")
    assert "`qzoo show resnet8_digits` shows one." in str(caught.value)
