from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.errors import ArgumentError, RecipeError
from qzoo.schema.optimize import OptimizeSpec, step_rows
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import dump_yaml, parse_recipe
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

HEAD = """
version: 1
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
scheme: w4a4
variants:
  plain: {}
"""


def entry(variants: str) -> RecipeEntry:
    return RecipeEntry.from_recipe(parse_recipe(HEAD + variants), "shown")


def steps_of(variants: str, name: str) -> dict[str, Any] | None:
    found = resolve(entry(variants), name).optimize
    return None if found is None else found.model_dump(exclude_unset=True)


@for_each(
    ("said", "comes_to"),
    [
        ({"round": "gptq"}, {"round": {"method": "gptq"}}),
        ({"reconstruct": True}, {"reconstruct": {}}),
        ({"reconstruct": "stage"}, {"reconstruct": {"unit": "stage"}}),
        ({"smooth": 0.7}, {"smooth": {"alpha": 0.7}}),
        ({"smooth": "search", "fold": True}, {"smooth": {"alpha": "search"}, "fold": True}),
        ({"ridge": 2, "equalize": False}, {"ridge": {"strength": 2}, "equalize": None}),
    ],
)
def test_a_word_or_a_number_is_short_for_fields(said: dict[str, Any], comes_to: dict[str, Any]) -> None:
    assert OptimizeSpec.model_validate(said) == OptimizeSpec.model_validate(comes_to)


def test_steps_have_one_order() -> None:
    said = {"correct_bias": True, "reconstruct": True, "round": "gptq", "equalize": True, "fold": True}
    assert OptimizeSpec.model_validate(said).steps == ["fold", "equalize", "round", "reconstruct", "correct_bias"]


def test_only_some_move_ranges() -> None:
    assert OptimizeSpec.model_validate({"equalize": True, "round": "gptq"}).moves_ranges
    assert not OptimizeSpec.model_validate({"round": "gptq", "correct_bias": "analytic"}).moves_ranges


def test_along_from_the_last_word_wins_step_by_step() -> None:
    chain = """
  a: {optimize: {round: gptq, correct_bias: true}}
  b: {from: a, optimize: {round: {method: gptq, damping: 0.1}, seed: 3}}
  c: {from: b, optimize: {round: false}}
  d: {from: c, optimize: {correct_bias: false}}
"""
    assert steps_of(chain, "b") == {"round": {"method": "gptq", "damping": 0.1}, "correct_bias": True, "seed": 3}
    assert steps_of(chain, "c") == {"correct_bias": True, "seed": 3}
    assert steps_of(chain, "d") is None


def test_two_spellings_have_one_digest_and_another_step_another() -> None:
    variants = """
  a: {optimize: {round: gptq, reconstruct: true}}
  b: {optimize: {reconstruct: {unit: block, drop: 0.5}, round: {method: gptq}}}
  c: {optimize: {round: gptq, reconstruct: {drop: 0.25}}}
"""
    digests = [resolve(entry(variants), name).digest for name in ("plain", "a", "b", "c")]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_it_comes_back_from_yaml() -> None:
    recipe = entry("  a: {optimize: {round: gptq, reconstruct: {beta: [18, 3]}, equalize: false}}").recipe
    assert parse_recipe(dump_yaml(recipe)) == recipe


@for_each(
    ("said", "text"),
    [
        ("{reconstruct: {iteratons: 3}}", r"optimize.reconstruct.iteratons: unknown key 'iteratons'. Did you mean"),
        ("{round: gptk}", r"variants.a.optimize.round.*: unknown value 'gptk'. Did you mean 'gptq'"),
        ("{round: {method: gptq, lr: 0.1}}", r"`lr` says nothing of `gptq`: leave it out"),
        ("{smooth: 1.5}", r"less than or equal to 1"),
        ("{ronud: gptq}", r"unknown key 'ronud'. Did you mean 'round'"),
    ],
)
def test_mistakes_are_told_with_their_place(said: str, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        entry(f"  a: {{optimize: {said}}}")


def test_a_block_says_something() -> None:
    with pytest.raises(ArgumentError, match=r"needs one of fold, equalize, smooth"):
        OptimizeSpec(seed=1)
    with pytest.raises(ValidationError, match="needs one of fold"):
        OptimizeSpec.model_validate({"fold": False})


def test_in_words() -> None:
    said = {"reconstruct": True, "smooth": 0.5, "correct_bias": "analytic"}
    rows = dict(step_rows(OptimizeSpec.model_validate(said)))
    assert rows["reconstruct"].startswith("by block, 2,000 steps of 32 images")
    assert (rows["smooth"], rows["correct_bias"]) == ("alpha 0.5", "analytic")
