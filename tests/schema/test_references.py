from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.schema.references import dotted, reference_problems

SCHEMES = ["int8", "fp8"]


def problems(variants: Any, **recipe: Any) -> dict[str, str]:
    return {dotted(path): text for path, text in reference_problems({**recipe, "variants": variants}, SCHEMES)}


def test_names_that_stand_for_something_are_fine() -> None:
    below = {"top1_below": "a", "source": "somebody"}
    variants = {
        "a": {"scheme": "fp8"},
        "b": {"from": "a", "published": [below]},
        "c": {"from": "b", "published": below},
    }
    assert problems(variants, scheme="int8") == {}


def test_all_are_found_each_at_its_field() -> None:
    below = {"top1_below": "int9"}
    found = problems(
        {"int8": {"scheme": "fp9", "published": below}, "b": {"from": "int9", "published": [{}, below]}},
        scheme="int9",
        published=below,
    )
    assert found == {
        "scheme": "unknown scheme 'int9'. Did you mean 'int8'? Known: fp8, int8.",
        "published.top1_below": "unknown variant 'int9'. Did you mean 'int8'? Known: b, int8.",
        "variants.int8.scheme": "unknown scheme 'fp9'. Did you mean 'fp8'? Known: fp8, int8.",
        "variants.int8.published.top1_below": "unknown variant 'int9'. Did you mean 'int8'? Known: b, int8.",
        "variants.b.from": "unknown variant 'int9'. Did you mean 'int8'? Known: b, int8.",
        "variants.b.published.1.top1_below": "unknown variant 'int9'. Did you mean 'int8'? Known: b, int8.",
    }


def test_the_name_of_the_base_row_is_taken() -> None:
    taken = "'float' is what reports call the base itself. Choose another name."
    assert problems({"float": {}, "int8": {}}) == {"variants.float": taken}


def test_schemes_are_looked_up_only_where_they_are_known() -> None:
    assert list(reference_problems({"scheme": "int9", "variants": {"a": {}}})) == []


@pytest.mark.parametrize(
    ("parents", "chain"),
    [
        ({"a": "a"}, "a <- a"),
        ({"a": "b", "b": "a"}, "a <- b <- a"),
        ({"c": "b", "b": "a", "a": "c", "d": "c"}, "a <- b <- c <- a"),
    ],
)
def test_a_circle_is_reported_once(parents: dict[str, str], chain: str) -> None:
    variants = {name: {"from": parent} for name, parent in parents.items()}
    assert problems(variants) == {"variants.a.from": f"the chain {chain} never ends. Drop one `from` of it."}


keys = st.sampled_from(["variants", "from", "published", "top1_below", "scheme", "residual", "a", "b"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["variants", "published", "scheme"]), anything, max_size=3))
def test_data_of_any_shape_are_passed_over(recipe: Any) -> None:
    for path, text in reference_problems(recipe, SCHEMES):
        assert path
        assert text.endswith(".")
