from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.schema.finetune import Distillation, FinetuneSpec, Scales
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Recipe, Variant
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.digest import variant_content
from qzoo.schema.resolution.resolve import recipe_digest, resolve
from tests.each import for_each

PACKAGE = {"name": "some-weights", "file": "resnet18.pth", "sha256": 64 * "a"}
SHA256 = "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"
BASE = {"source": "timm", "architecture": "resnet18", "sha256": SHA256}
CLAIM = {"top1": 70, "source": "somebody, somewhere"}
FC = {"match": {"name": "fc"}}
TYPES = {"match": {"type": ["Conv2d", "Linear"]}}
VARIANT: dict[str, Any] = {
    "weight": {"bits": 4},
    "input": {"calibrator": "mse"},
    "residual": "skip",
    "rules": [FC | {"input": False}, TYPES | {"output": {"bits": 8}}],
}


def digest(variant: Any, *, name: str = "a", others: Any = (), **recipe: Any) -> str:
    content = {"base": BASE, "dataset": "imagenet-1k", **recipe, "variants": {**dict(others), name: variant}}
    return resolve(RecipeEntry.from_recipe(Recipe.model_validate(content), "net"), name).digest


@for_each(
    "variant",
    [
        VARIANT | {"weight": {"bits": 5}},
        VARIANT | {"weight": False},
        VARIANT | {"weight": {"bits": 4, "narrow": True}},
        VARIANT | {"weight": {"format": "e4m3"}},
        VARIANT | {"input": {"calibrator": "entropy"}},
        VARIANT | {"input": {"calibrator": {"percentile": 99.99999}}},
        VARIANT | {"input": {"calibrator": {"percentile": 100}}},
        VARIANT | {"input": {"calibrator": "mse", "unsigned": "auto"}},
        VARIANT | {"input": {"calibrator": "mse", "unsigned": True}},
        VARIANT | {"input": {"calibrator": "mse", "symmetric": False}},
        VARIANT | {"input": {"calibrator": "mse", "symmetric": "auto"}},
        VARIANT | {"output": {}},
        VARIANT | {"residual": "both"},
        VARIANT | {"residual": "none"},
        VARIANT | {"residual": {"placement": "skip", "bits": 4}},
        VARIANT | {"rules": VARIANT["rules"][::-1]},
        VARIANT | {"rules": VARIANT["rules"][:1]},
        VARIANT | {"scheme": "fp8"},
        VARIANT | {"finetune": {"epochs": 1, "lr": 0.1}},
        VARIANT | {"finetune": {"epochs": 1, "lr": 0.1, "seed": 1}},
        *(VARIANT | {"calibration": c} for c in [{"images": 9}, {"seed": 1}, {"split": "val"}, {"batch_size": 9}]),
        *(VARIANT | {"calibration": c} for c in [{"transform": "train"}, {"binning": "reference"}]),
    ],
)  # fmt: skip
def test_changes_with_what_can_move_a_number(variant: Any) -> None:
    others = {digest(VARIANT), digest(VARIANT | {"weight": {"bits": 6}}), digest({})}
    assert digest(variant) not in others


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar10"},
        {"calibration": {"images": 9}},
        {"base": BASE | {"architecture": "resnet34"}},
        {"base": BASE | {"source": "torchvision"}},
        {"base": BASE | {"weights": "a1_in1k"}},
        {"base": BASE | {"sha256": "1" + SHA256[1:]}},
        {"base": BASE | {"package": PACKAGE}},
        {"scheme": "w4a4"},
    ],
)
def test_changes_with_the_recipe(change: Any) -> None:
    assert digest(VARIANT, **change) != digest(VARIANT)


@pytest.mark.parametrize(
    "variant",
    [
        VARIANT | {"description": "words", "published": CLAIM, "scheme": "int8"},
        VARIANT | {"weight": {"bits": 4, "format": "int"}},
        VARIANT | {"input": {"calibrator": {"method": "mse"}}},
        VARIANT | {"residual": {"placement": "skip"}},
        VARIANT | {"calibration": {"allow_leak": True}},
        VARIANT | {"rules": [FC | {"input": False, "why": "words"}, TYPES | {"output": {"bits": 8}}]},
        VARIANT | {"rules": [{"match": {"name": ["fc"]}, "input": False}, VARIANT["rules"][1]]},
        VARIANT | {"rules": [VARIANT["rules"][0], {"match": {"type": ["Linear", "Conv2d"]}, "output": {"bits": 8}}]},
    ],
)
def test_stays_with_words_and_spelling(variant: Any) -> None:
    assert digest(variant) == digest(VARIANT)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 7},
        {"description": "words"},
        {"published": CLAIM},
        {"name": "b"},
        {"others": {"z": {}}},
        {"base": BASE | {"sha256": SHA256[:8]}},
        {"scheme": "int8"},
        {"calibration": {"images": 1024, "seed": 0}},
    ],
)
def test_stays_with_the_rest_of_the_recipe(change: Any) -> None:
    assert digest(VARIANT, **change) == digest(VARIANT)


def test_any_number_of_digits_pins_a_packages_file() -> None:
    first, whole = ({"base": BASE | {"package": PACKAGE | {"sha256": digits * "a"}}} for digits in (8, 64))
    assert digest(VARIANT, **first) == digest(VARIANT, **whole)


@pytest.mark.parametrize(
    "chain",
    [
        {"y": VARIANT, "z": {"from": "y"}},
        {"y": {**VARIANT, "input": {"calibrator": "max"}}, "z": {"from": "y", "input": {"calibrator": "mse"}}},
        {"y": {**VARIANT, "input": False}, "z": {"from": "y", "input": {"calibrator": "mse"}}},
        {"y": {**VARIANT, "weight": {"bits": 3}}, "z": {"from": "y", "weight": {"bits": 4}}},
        {"x": {"weight": {"bits": 4}}, "y": {**VARIANT, "weight": None, "from": "x"}, "z": {"from": "y"}},
        {"y": {**VARIANT, "rules": VARIANT["rules"][:1]}, "z": {"from": "y", "rules": VARIANT["rules"][1:]}},
        {"y": {**VARIANT, "residual": "both"}, "z": {"from": "y", "residual": "skip"}},
    ],
)
def test_a_chain_comes_to_what_one_variant_says(chain: dict[str, Any]) -> None:
    last = chain.pop("z")
    assert digest(last, name="z", others=chain) == digest(VARIANT)


def test_fields_of_a_chain_add_up() -> None:
    parent = {"y": {"input": {"calibrator": "mse", "bits": 6}}}
    together = digest({"input": {"bits": 4, "calibrator": "mse"}})
    assert digest({"from": "y", "input": {"bits": 4}}, others=parent) == together
    assert digest({"input": {"bits": 4}}) != together


def test_float_at_the_end_of_a_chain_is_another_thing() -> None:
    parent = {"y": {"input": {"bits": 4}}}
    assert digest({"from": "y", "input": False}, others=parent) != digest({"from": "y"}, others=parent)


@given(st.floats(0, 100, exclude_min=True), st.floats(0, 100, exclude_min=True))
def test_every_digit_of_a_percentile_counts(one: float, other: float) -> None:
    digests = {digest({"input": {"calibrator": {"percentile": p}}}) for p in (one, other)}
    assert len(digests) == len({one, other})


def test_lines_and_folders_do_not_count(write_recipe: Callable[[str], Path]) -> None:
    def file_digest(text: str) -> str:
        entry, _ = Catalog.load().find(str(write_recipe(text)))
        return resolve(entry, "a").digest

    assert file_digest("variants: {a: {input: false}}") == file_digest("\n# words\nvariants:\n  a:\n    input: false\n")


@for_each("entry", lambda: Catalog.load().entries, ids=lambda entry: entry.name)
def test_variants_that_differ_in_content_differ_in_digest(entry: RecipeEntry) -> None:
    digests = [resolve(entry, variant).digest for variant in entry.variants]
    assert len(set(digests)) == len(digests)


def test_the_digest_of_a_recipe_covers_its_variants_and_nothing_said_for_people() -> None:
    recipe = Recipe.model_validate(
        {"base": {"source": "timm", "architecture": "x"}, "dataset": "y", "variants": {"a": {}, "b": {"scheme": "fp8"}}}
    )

    def digest(**changes: object) -> str:
        return recipe_digest(RecipeEntry.from_recipe(recipe.model_copy(update=changes), "net"))

    assert digest() == digest(description="for people")
    assert len({digest(), digest(dataset="z"), digest(scheme="w4a4")}) == 3


NAMED = [{"match": {"name": "layer1.*"}, "residual": "skip"}]


@pytest.mark.parametrize(
    ("variant", "other"),
    [
        # What was said before `none` holds again where a rule places a quantizer.
        (
            {"residual": "none", "rules": NAMED},
            {"from": "y", "residual": "none", "rules": NAMED},
        ),
        ({"residual": "skip"}, {"residual": "skip", "rules": [{"match": {"name": "layer1.*"}, "residual": "none"}]}),
        ({"rules": NAMED}, {"residual": "skip"}),
    ],
)
def test_other_residual_quantizers_have_another_digest(variant: Any, other: Any) -> None:
    others = {"y": {"residual": {"placement": "skip", "bits": 4}}}
    assert digest(variant, others=others) != digest(other, others=others)


def test_a_call_that_comes_after_the_rules_has_another_digest_than_a_field_before_them() -> None:
    rules = [{"match": {"name": "layer1.*"}, "residual": "none"}]
    content = {
        "base": BASE,
        "dataset": "x",
        "variants": {"a": {"rules": rules}, "b": {"residual": "skip", "rules": rules}},
    }
    entry = RecipeEntry.from_recipe(Recipe.model_validate(content), "net")
    assert with_call(resolve(entry, "a"), residual="skip").digest != resolve(entry, "b").digest


SCHEDULE: dict[str, Any] = {"epochs": 3, "lr": 0.1, "schedule": "step", "step_epochs": 2, "distill": {}, "scales": {}}
CHANGES: dict[str, Any] = {
    "epochs": 4, "optimizer": "adamw", "lr": 0.2, "schedule": "cosine", "step_epochs": 1, "step_factor": 0.5,
    "floor": 0.01, "warmup_epochs": 0.5, "batch_size": 128, "momentum": 0.8, "weight_decay": 0.0,
    "label_smoothing": 0.1, "transform": "eval", "freeze_bn_epoch": 0, "ema": 0.9, "clip_gradient": 1,
    "scales": "fixed", "distill": None, "precision": "bfloat16", "seed": 1,
}  # fmt: skip


def trained(**changes: Any) -> str:
    return digest(VARIANT | {"finetune": SCHEDULE | changes})


@for_each("field", FinetuneSpec.model_fields)
def test_every_field_of_a_schedule_counts(field: str) -> None:
    # `schedule` and `floor` come with what they go together with.
    cosine = {"schedule": "cosine", "step_epochs": None}
    before, change = (cosine if field == "floor" else {}), {field: CHANGES[field]}
    after = before | (cosine if field == "schedule" else change)
    assert trained(**after) != trained(**before)


@pytest.mark.parametrize(
    "change",
    [{"scales": {"learn": False}}, {"scales": {"init": "lsq"}}, {"distill": {"weight": 0.4}},
     {"distill": {"temperature": 2}}],
)  # fmt: skip
def test_every_field_of_scales_and_distillation_counts(change: dict[str, Any]) -> None:
    assert trained(**change) != trained()


@given(st.sets(st.sampled_from([*FinetuneSpec.model_fields])))
def test_defaults_of_a_schedule_may_be_written_out(written: set[str]) -> None:
    whole = FinetuneSpec.model_validate(SCHEDULE).model_dump(mode="json")
    assert trained(**{field: whole[field] for field in written}) == trained()


@pytest.mark.parametrize(
    "change",
    [
        {"scales": "learned"},
        {"scales": Scales().model_dump()},
        {"scales": {"init": "calibrated"}},
        {"distill": Distillation().model_dump()},
        {"distill": {"temperature": 4}},
        {"lr": 1e-1},
        {"ema": None, "clip_gradient": None},
        {"warmup_epochs": 0, "floor": 0},
    ],
)
def test_another_spelling_of_a_schedule_is_the_same(change: dict[str, Any]) -> None:
    assert trained(**change) == trained()


def test_a_field_that_is_added_later_changes_no_digest() -> None:
    # What says nothing is not there, so that a new default says nothing either.
    written = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.1, "distill": {}}).model_dump(mode="json")
    variant = Variant.model_validate({"finetune": written})
    recipe = Recipe.model_validate({"base": BASE, "dataset": "x", "variants": {"a": variant}})
    content = variant_content(resolve(RecipeEntry.from_recipe(recipe, "net"), "a"))
    assert content["finetune"] == {"epochs": 1, "lr": 0.1, "distill": {}}
