"""Variant sets and named sources: what is written once comes to what is written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import RecipeError, RuleError
from qzoo.schema.named_sources import with_sources
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.including import SetEntry, include
from qzoo.schema.reading.loading import dump_json, dump_yaml, load_recipe, parse_recipe
from qzoo.schema.reading.recipe_folders import FaultyRecipeWarning
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.binding import bind
from qzoo.schema.resolution.plan import Layer
from qzoo.schema.resolution.resolve import resolve

HEAD: dict[str, Any] = {"base": {"source": "timm", "architecture": "resnet18"}, "dataset": "imagenet-1k"}
STANDARD = "variants:\n  int8: {input: {calibrator: mse}}\n  int8_max: {input: {calibrator: max}}\n"
CONV = Layer("conv1", ("Conv2d",), True)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Puts files into a folder of `QZOO_RECIPES`, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QZOO_RECIPES", str(tmp_path))

    def put(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)

    return put


def net(text: str) -> str:
    return f"base: {{source: timm, architecture: resnet18}}\ndataset: imagenet-1k\n{text}"


Shelf = Callable[[dict[str, str]], None]


def test_a_set_is_as_if_it_were_written_out(shelf: Shelf) -> None:
    written = "variants:\n  int8: {}\n  int8_max: {input: {calibrator: max}}\n  qat: {from: int8_max}\n"
    shelf({"variants/mine.yaml": STANDARD, "one.yaml": net(written)})
    shelf({"two.yaml": net("include: [mine]\nvariants: {int8: {}, qat: {from: int8_max}}\n")})
    one, two = (Catalog.load().find(name)[0] for name in ("one", "two"))
    assert one.recipe == two.recipe
    assert two.variants == ["int8", "int8_max", "qat"]
    assert [resolve(one, name).digest for name in one.variants] == [resolve(two, name).digest for name in two.variants]


def test_one_set_needs_no_list_and_a_set_is_no_recipe(shelf: Shelf) -> None:
    shelf({"variants/mine.yaml": STANDARD, "one.yaml": net("include: mine\n")})
    assert Catalog.load().find("one")[0].variants == ["int8", "int8_max"]
    assert not {"mine", "standard"} & Catalog.load().recipes.keys()
    assert {"mine", "standard"} <= Catalog.load().sets.keys()


def test_dataset_calibration_and_sources_of_a_set_hold_where_the_recipe_says_nothing(shelf: Shelf) -> None:
    shared = 'dataset: cifar10\ncalibration: {images: 9, seed: 3}\nsources: {log: "the log of {}"}\n'
    claim = "published: {top1: 1, source: log(monday)}\n"
    base = "base: {source: timm, architecture: resnet18}\ninclude: [a]\nvariants: {int8: {}}\n"
    shelf({"variants/a.yaml": shared, "one.yaml": base + claim})
    shelf({"two.yaml": f"{base}dataset: digits\ncalibration: {{seed: 4}}\nsources: {{log: another log}}\n"})
    one, two = (Catalog.load().find(name)[0].recipe for name in ("one", "two"))
    assert (one.dataset, one.calibration.images, one.calibration.seed) == ("cifar10", 9, 3)
    assert (two.dataset, two.calibration.images, two.calibration.seed) == ("digits", 9, 4)
    assert one.published[0].source == "the log of monday"


def test_rules_of_a_set_have_its_file_and_may_match_nothing(shelf: Shelf) -> None:
    rules = "    rules:\n      - {match: {name: fd}, input: false}\n"
    shelf({"variants/mine.yaml": f"variants:\n  a:\n    residual: skip\n{rules}", "one.yaml": net("include: [mine]\n")})
    shelf({"two.yaml": net(f"variants:\n  a:\n{rules}")})
    entry = Catalog.load().find("one")[0]
    resolved = resolve(entry, "a")
    assert str(resolved.rules[-1].origin) == "variants.a.rules.0  variants/mine.yaml:5"
    assert [one.module for one in bind(resolved, [CONV]).quantizers] == ["conv1", "conv1"]
    with pytest.raises(RuleError, match=r"two\.yaml:6: variants\.a\.rules\.0 of two_a matches nothing: 'fd'"):
        bind(resolve(Catalog.load().find("two")[0], "a"), [CONV])


def test_a_recipe_in_python_may_include(shelf: Shelf) -> None:
    shelf({"variants/mine.yaml": STANDARD})
    recipe = Recipe.model_validate({**HEAD, "include": ["mine"], "variants": {"b": {"from": "int8"}}})
    assert parse_recipe(dump_yaml(recipe)) == parse_recipe(dump_json(recipe)) == recipe
    entry = RecipeEntry.from_recipe(recipe, "net")
    assert (entry.variants, entry.recipe.include) == (["int8", "int8_max", "b"], [])
    alone = entry.self_contained("b")
    assert list(alone.variants) == ["int8", "b"]
    assert parse_recipe(dump_yaml(alone)) == alone
    assert resolve(RecipeEntry.from_recipe(alone, "net"), "b").digest == resolve(entry, "b").digest
    with pytest.raises(RecipeError, match=r"<recipe>: include\.0: unknown variant set 'mina'. Did you mean 'mine'\?"):
        RecipeEntry.from_recipe(recipe.model_copy(update={"include": ["mina"]}), "net")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "include: [mine, standrad]\nvariants: {x: {from: int8_entropy}}\n",
            ["one.yaml:3: include.1: unknown variant set 'standrad'. Did you mean 'standard'? Known: "],
        ),
        (
            "include: [mine, mine]\n",
            ["one.yaml:3: include.1: the set 'mine' is named twice. Keep one."],
        ),
        (
            "include: [mine, other]\n",
            [
                "one.yaml:3: include.1: variants.int8_max stands in two sets, in 'mine' (variants/mine.yaml:3) and in "
                "'other' (variants/other.yaml:2). Include one of them, or say it in the recipe."
            ],
        ),
        (
            "include:\n  - lonely\n",
            [
                "one.yaml:4: include.0: z of the set 'lonely' builds on 'int7', which neither this recipe nor another "
                "set of it has. "
            ],
        ),
        (
            f"include: [{', '.join(31 * ['x'])}]\n",
            ["one.yaml:3: include: 31 sets; a recipe includes at most 30."],
        ),
        ("include: 5\nvariants: {a: {}}\n", ["one.yaml:3: include: Input should be a valid list (given: 5)"]),
        (
            "include: [mine]\nvariants: {a: {from: int9}, b: {published: {top1_below: int9, source: xx}}}\n",
            [
                "one.yaml:4: variants.a.from: unknown variant 'int9'. Did you mean 'int8'? Known: a, b, int8, ",
                "one.yaml:4: variants.b.published.source: String should have at least 8",
                "one.yaml:4: variants.b.published.top1_below: unknown variant 'int9'.",
            ],
        ),
    ],
)
def test_what_is_wrong_with_an_include(shelf: Shelf, text: str, messages: list[str]) -> None:
    shelf({"variants/mine.yaml": STANDARD, "variants/other.yaml": "variants:\n  int8_max: {}\n  c: {}\n"})
    shelf({"variants/lonely.yaml": "variants:\n  z: {from: int7}\n", "one.yaml": net(text)})
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path("one.yaml"), Catalog.load().schemes, sets=Catalog.load().sets)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    assert all(line.startswith(message) for line, message in zip(lines, messages, strict=True)), lines


def test_variants_of_which_there_are_only_comments_yet_are_none(shelf: Shelf) -> None:
    shelf({"one.yaml": net("include: [standard]\nvariants:\n  # mine: {}\n")})
    assert Catalog.load().find("one")[0].variants == ["int8", "int8_max", "int8_mse", "int8_entropy", "int8_asym"]


def test_what_two_sets_say_is_no_fault_where_the_recipe_says_it(shelf: Shelf) -> None:
    shelf({"variants/mine.yaml": STANDARD, "variants/other.yaml": "variants:\n  int8_max: {}\n"})
    shelf({"one.yaml": net("include: [mine, other]\nvariants: {int8_max: {scheme: fp8}}\n")})
    assert Catalog.load().find("one")[0].recipe.variants["int8_max"].scheme == "fp8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants:\n  a: {inptu: {}}\n", "variants/bad.yaml:2: variants.a.inptu: unknown key 'inptu'. Did you mean"),
        ("variants:\n  A: {}\n", "variants/bad.yaml:2: variants.A: 'A' is no name"),
        ("schemes: {}\n", "variants/bad.yaml:1: schemes: unknown key 'schemes'. Known: calibration,"),
        ("sources: {log: short}\n", "variants/bad.yaml:1: sources.log: String should have at least 8 characters"),
        ("", "variants/bad.yaml holds nothing; a variant set is a mapping with some of the keys description, dataset,"),
        ("variants:\n  a: {finetune: {lr: 1}}\n", "variants/bad.yaml:2: variants.a.finetune.epochs: this field is"),
    ],
)
def test_a_faulty_set_has_its_own_file_and_line(shelf: Shelf, text: str, message: str) -> None:
    shelf({"variants/bad.yaml": text, "one.yaml": net("include: [bad]\n")})
    with pytest.raises(RecipeError) as caught:
        Catalog.load().find("one")
    assert Catalog.load().find("resnet50_int8")[1] == "int8"
    assert str(caught.value).startswith(message)


def test_two_sets_of_one_name(shelf: Shelf) -> None:
    shelf({"variants/standard.yaml": STANDARD})
    with pytest.raises(RecipeError, match=r"Two files define the variant set 'standard': .* and .*\. Rename one\."):
        Catalog.load().find("resnet18_int8")


def test_a_scheme_that_a_set_names_in_vain_is_told_of_in_its_file(shelf: Shelf) -> None:
    shelf({"variants/mine.yaml": "variants:\n  a: {scheme: int9}\n", "one.yaml": net("include: [mine]\n")})
    with pytest.raises(RecipeError, match=r"^variants/mine\.yaml:2: variants\.a\.scheme: unknown scheme 'int9'"):
        Catalog.load().find("one.yaml")


CLAIM = {"top1": 76.1, "source": "log"}


names = st.sampled_from(["a", "b", "c", "d", "e"])
variants = st.dictionaries(names, st.fixed_dictionaries({}, optional={"scheme": st.sampled_from(["int8", "fp8"])}))


@given(variants, variants, variants)
def test_the_recipe_goes_before_its_sets_and_their_order_stays(one: Any, two: Any, own: Any) -> None:
    two = {name: variant for name, variant in two.items() if name not in one or name in own}
    sets = {name: SetEntry(name, {"variants": said}, name, {}) for name, said in (("one", one), ("two", two))}
    found = include({**HEAD, "include": ["one", "two"], "variants": own}, {}, sets)
    assert found.problems == []
    assert found.data["variants"] == {**two, **one, **own}
    order, shared = list(found.data["variants"]), {**one, **two}
    for written in (shared, [name for name in own if name not in shared]):
        assert [name for name in order if name in written] == list(written)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.just("published"), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["include", "sources", "variants", "published", "calibration", "dataset"])


@given(anything | st.dictionaries(keys, anything))
def test_data_of_any_shape_are_passed_over(data: Any) -> None:
    sets = {"a": SetEntry("a", {"variants": {"b": {"from": "c"}}, "calibration": {"seed": 1}}, "a.yaml", {})}
    found = include(with_sources(data), {}, sets)
    assert all(path[0] == "include" and text.endswith((".", "?")) for path, text in found.problems)


def test_what_a_set_says_may_match_nothing_of_a_model_also_once_it_is_written_out(shelf: Shelf) -> None:
    rules = "rules: [{match: {name: '*.se.*'}, input: false}]"
    shelf({"variants/mine.yaml": f"variants:\n  a: {{residual: skip, {rules}}}\n"})
    shelf({"one.yaml": net("include: [mine]\n")})
    entry = Catalog.load().find("one")[0]
    written = parse_recipe(dump_yaml(entry.self_contained("a")))
    alone = RecipeEntry.from_recipe(written, "one")
    layers = [Layer("fc", ("Linear",), True)]
    assert resolve(alone, "a").digest == resolve(entry, "a").digest
    plans = [bind(resolve(one, "a"), layers).quantizers for one in (alone, entry)]
    assert [[(one.path, one.spec) for one in plan] for plan in plans] == 2 * [
        [(one.path, one.spec) for one in plans[0]]
    ]
    own = parse_recipe(dump_yaml(written).replace("shared: true", "shared: false"))
    with pytest.raises(RuleError, match="matches nothing"):
        bind(resolve(RecipeEntry.from_recipe(own, "one"), "a"), layers)


def test_of_a_set_that_is_named_wrongly_a_list_says_so(shelf: Shelf) -> None:
    shelf({"one.yaml": net("include: [standrd]\n")})
    with pytest.warns(FaultyRecipeWarning, match=r"include\.0: unknown variant set 'standrd'"):
        Catalog.load().names()
