from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.errors import RecipeError
from qzoo.schema.finetune import FinetunePatch, FinetuneSpec, Scales
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import dump_json, dump_yaml, parse_recipe
from qzoo.schema.recipe import Base, Recipe, Variant
from qzoo.schema.resolution.resolve import resolve
from tests.each import for_each

LEAST = {"epochs": 1, "lr": 1e-4}


def test_epochs_and_learning_rate_are_enough() -> None:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 1})
    assert (spec.lr, spec.optimizer, spec.schedule, spec.scales) == (1.0, "sgd", "constant", Scales(learn=False))


@pytest.mark.parametrize(
    ("said", "scales"),
    [
        ("fixed", Scales(learn=False)),
        ("learned", Scales()),
        ({"init": "lsq"}, Scales(init="lsq")),
        ({"learn": False}, Scales(learn=False)),
    ],
)
def test_scales_in_a_word_or_in_fields(said: Any, scales: Scales) -> None:
    spec = FinetuneSpec.model_validate(LEAST | {"scales": said})
    assert spec.scales == scales
    assert FinetuneSpec.model_validate(spec.model_dump()) == spec


@for_each(
    ("change", "message"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": "1e-4"}, "valid number"),
        ({"schedule": "cosin"}, "'constant', 'step' or 'cosine'"),
        ({"optimiser": "sgd"}, "Extra inputs are not permitted"),
        ({"momentum": 1}, "less than 1"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"scales": "learn"}, "expected fixed, learned, or fields such as {learn: true, init: lsq}"),
        ({"schedule": "step"}, "`schedule: step` and `step_epochs` go together"),
        ({"step_epochs": 3}, "`schedule: step` and `step_epochs` go together"),
        ({"floor": 1e-5}, "`floor` goes with `schedule: cosine`, not with constant"),
        ({"floor": 1.0, "schedule": "cosine"}, "`floor` (1) is above `lr` (0.0001)"),
        ({"warmup_epochs": 2}, "`warmup_epochs` (2) is more than `epochs` (1)"),
        ({"distill": {"temperature": 0}}, "greater than 0"),
        ({"precision": "half"}, "'float32', 'bfloat16' or 'float16'"),
        ({"epochs": 10_001}, "less than or equal to 10000"),
        ({"epochs": True}, "valid integer"),
        ({"lr": float("nan")}, "finite number"),
        ({"weight_decay": float("inf")}, "finite number"),
        ({"weight_decay": -1e-4}, "greater than or equal to 0"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"step_factor": 1, "schedule": "step", "step_epochs": 1}, "less than 1"),
        ({"clip_gradient": 0}, "greater than 0"),
        ({"freeze_bn_epoch": -1}, "greater than or equal to 0"),
        ({"freeze_bn_epoch": 0.5}, "valid integer"),
        ({"ema": 1}, "less than 1"),
        ({"ema": 0}, "greater than 0"),
        ({"scales": {"start": "lsq"}}, "Extra inputs are not permitted"),
        ({"scales": {"learn": False, "init": "lsq"}}, "`init: lsq` goes with `learn: true`: fixed ranges stay"),
        ({"seed": 2**32}, "less than 4294967296"),
        ({"scales": {"init": "max"}}, "'calibrated' or 'lsq'"),
        ({"distill": {"weight": 1.5}}, "less than or equal to 1"),
        ({"distill": True}, "valid dictionary or instance of Distillation"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FinetuneSpec.model_validate(LEAST | change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"floor": 1e-4, "schedule": "cosine"},
        {"warmup_epochs": 1},
        {"schedule": "step", "step_epochs": 7},
        {"freeze_bn_epoch": 9},
        {"distill": {"weight": 1}},
        {"momentum": 0},
    ],
)
def test_accepts_what_lies_at_the_edge(change: dict[str, Any]) -> None:
    spec = FinetuneSpec.model_validate(LEAST | change)
    assert FinetuneSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_schedule_can_not_be_changed_after_it_is_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FinetuneSpec.model_validate(LEAST).lr = 1.0  # type: ignore[misc]


def digest(finetune: dict[str, Any] | None) -> str:
    variant = Variant.model_validate({} if finetune is None else {"finetune": finetune})
    recipe = Recipe(base=Base(source="timm", architecture="resnet18"), dataset="imagenet-1k", variants={"x": variant})
    return resolve(RecipeEntry.from_recipe(recipe, "r"), "x").digest


def test_defaults_that_are_written_out_change_no_digest() -> None:
    written = FinetuneSpec.model_validate(LEAST).model_dump(mode="json")
    assert digest(LEAST) == digest(written) == digest(LEAST | {"scales": "fixed"})


@for_each(
    "change",
    [{"epochs": 2}, {"lr": 1e-3}, {"scales": "learned"}, {"scales": {"init": "lsq"}}, {"distill": {}}, {"ema": 0.9},
     {"seed": 1}, {"batch_size": 128}, {"precision": "bfloat16"}, {"transform": "eval"}, {"freeze_bn_epoch": 0}],
)  # fmt: skip
def test_any_field_changes_the_digest(change: dict[str, Any]) -> None:
    assert len({digest(None), digest(LEAST), digest(LEAST | change)}) == 3


CHAIN = """\
base: {source: timm, architecture: resnet18}
dataset: imagenet-1k
variants:
  a: {finetune: {epochs: 6, optimizer: adamw, lr: 0.01, ema: 0.9, distill: {weight: 0.5, temperature: 2}}}
  b: {from: a, finetune: {epochs: 8, optimizer: sgd, ema: null, scales: learned}}
  c: {from: b, weight: {bits: 3}}
  d: {from: c, finetune: {distill: {weight: 0.7}, momentum: 0}}
"""


def schedules(text: str) -> dict[str, FinetuneSpec | None]:
    entry = RecipeEntry.from_recipe(parse_recipe(text), "r")
    return {name: resolve(entry, name).finetune for name in entry.variants}


def test_a_schedule_merges_along_the_chain_field_by_field() -> None:
    distill = {"weight": 0.5, "temperature": 2}
    a = {"epochs": 6, "optimizer": "adamw", "lr": 0.01, "ema": 0.9, "distill": distill}
    b = {"epochs": 8, "optimizer": "sgd", "lr": 0.01, "scales": {"learn": True}, "distill": distill}
    d = b | {"distill": {"weight": 0.7, "temperature": 4}, "momentum": 0}
    said = schedules(CHAIN)
    assert said == {name: FinetuneSpec.model_validate(spec) for name, spec in {"a": a, "b": b, "c": b, "d": d}.items()}


def test_what_a_link_says_comes_back_though_it_is_a_default_or_null() -> None:
    recipe = parse_recipe(CHAIN)
    for loaded in (
        parse_recipe(dump_yaml(recipe)),
        parse_recipe(dump_json(recipe)),
        Recipe.model_validate(recipe.model_dump()),
    ):
        assert loaded == recipe
        assert schedules(dump_yaml(loaded)) == schedules(CHAIN)
        said = loaded.variants["b"].finetune
        assert said is not None
        assert said.model_dump() == {
            "epochs": 8,
            "optimizer": "sgd",
            "ema": None,
            "scales": {"learn": True, "init": "calibrated"},
        }


def test_a_whole_schedule_may_be_said_in_python() -> None:
    spec = FinetuneSpec(epochs=1, lr=0.1)
    variant = Variant.model_validate({"finetune": spec})
    assert variant.finetune == FinetunePatch(epochs=1, lr=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "e: {from: a, finetune: {lr: null}}",
            "e.finetune.lr: this field is missing. Learning rate ",
        ),
        (
            "e: {from: a, finetune: {schedule: step}}",
            "e.finetune: `schedule: step` and `step_epochs` go together",
        ),
        ("e: {from: a, finetune: {warmup_epochs: 7}}", "e.finetune: `warmup_epochs` (7) is more than `epochs` (6)"),
        (
            "e: {from: f, finetune: {epochs: 7}}",
            "e.finetune.lr: this field is missing. Learning rate ",
        ),
        (
            "e: {from: a, finetune: {epochs: 0}}",
            "e.finetune.epochs: Input should be greater than or equal",
        ),
        ("e: {finetune: {epochs: 1}}", "e.finetune.lr: this field is missing. Learning rate "),
        (
            "e: {finetune: {epochs: 1, lr: 1, warmup_epochs: 7}}",
            "e.finetune: `warmup_epochs` (7) is more than",
        ),
    ],
)
def test_a_chain_has_to_come_to_a_schedule(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{CHAIN}  f: {{}}\n  {change}\n", "my.yaml")
    assert str(caught.value).startswith(f"my.yaml:9: variants.{message}")
    assert "\n" not in str(caught.value)
