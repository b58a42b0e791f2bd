from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qzoo.commands.finetune import parse_changes
from qzoo.errors import RecipeError, UnknownNameError
from qzoo.schema.finetune import Distillation, FinetuneSpec, Scales
from tests.each import for_each


@for_each(
    ("text", "field", "value"),
    [
        ("lr=1e-4", "lr", 1e-4),
        ("lr=1E+2", "lr", 100.0),
        ("lr=0.5", "lr", 0.5),
        ("seed=3", "seed", 3),
        (" ema = 0.99 ", "ema", 0.99),
        ("schedule=cosine", "schedule", "cosine"),
        ("scales=learned", "scales", "learned"),
        ("scales={init: lsq}", "scales", {"init": "lsq"}),
        ("distill={weight: 0.25, temperature: 2}", "distill", {"weight": 0.25, "temperature": 2}),
        ("distill=null", "distill", None),
        ("ema=", "ema", None),
        ("transform=a=b", "transform", "a=b"),
        ("distill={weight: 1e-1, temperature: 1e1}", "distill", {"weight": 0.1, "temperature": 10.0}),
        ("schedule=2026-11-25", "schedule", "2026-11-25"),
        ("schedule=no", "schedule", "no"),
    ],
)
def test_a_value_is_read_as_a_recipe_says_it(text: str, field: str, value: Any) -> None:
    changes = parse_changes([text])
    assert changes == {field: value}
    assert type(changes[field]) is type(value)


@given(st.floats(1e-12, 1e12))
def test_a_number_keeps_all_its_digits(number: float) -> None:
    # repr writes 1e-05, which YAML alone takes for a text.
    assert parse_changes([f"lr={number!r}"]) == {"lr": number}


def test_the_last_of_several_holds() -> None:
    assert parse_changes([]) == {}
    assert parse_changes(["lr=1", "seed=2", "lr=3"]) == {"lr": 3, "seed": 2}


def test_a_whole_schedule() -> None:
    texts = ["epochs=2", "lr=1e-3", "schedule=step", "step_epochs=1", "scales={init: lsq}", "distill={}", "ema=9e-1"]
    spec = FinetuneSpec.model_validate(parse_changes(texts))
    assert (spec.lr, spec.step_epochs, spec.ema) == (1e-3, 1, 0.9)
    assert (spec.scales, spec.distill) == (Scales(init="lsq"), Distillation())


def test_every_field_of_a_schedule_can_be_set() -> None:
    spec = FinetuneSpec(epochs=1, lr=0.1).model_dump(mode="json")
    said = parse_changes([f"{field}={yaml.safe_dump(value, default_flow_style=True)}" for field, value in spec.items()])
    # The end mark of a document is no part of a value.
    assert said == spec


@for_each(
    ("text", "error", "words"),
    [
        ("cosine", RecipeError, ["--set cosine: expected FIELD=VALUE, such as --set schedule=cosine."]),
        ("schedul=cosine", UnknownNameError, ["a schedule has no field 'schedul'.", "Did you mean 'schedule'?"]),
        ("learning_rate=1", UnknownNameError, ["a schedule has no field 'learning_rate'.", "Known: batch_size"]),
        (
            "distill.weight=1",
            UnknownNameError,
            ["the fields of `distill` are given together: --set 'distill={weight: 1}'."],
        ),
        ("=1", UnknownNameError, ["--set =1: a schedule has no field ''."]),
        ("ema=[", RecipeError, ["--set ema=[: the value is no YAML.", "Write it as in a recipe: --set ema=0.99."]),
        ("scales={init: lsq", RecipeError, ["--set scales={init: lsq: the value is no YAML."]),
        ("lr=!!python/name:os.system", RecipeError, ["the value is no YAML."]),
        ("seed=!!int x", RecipeError, ["--set seed=!!int x: the value is no YAML."]),
        ("distill=" + "[" * 5000, RecipeError, ["the value is no YAML."]),
    ],
)
def test_what_can_not_be_read_is_refused(text: str, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        parse_changes(["seed=1", text])
    for part in words:
        assert part in str(caught.value)
