from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qzoo.schema.quantizer import METHODS, Calibrator
from tests.each import for_each


@pytest.mark.parametrize("method", ["max", "mse", "entropy"])
def test_a_word_is_short_for_a_method(method: str) -> None:
    short = Calibrator.model_validate(method)
    assert short == Calibrator.model_validate({"method": method})
    assert short.model_dump() == method
    assert str(short) == method


@given(st.floats(0, 100, exclude_min=True))
def test_percentile_comes_back_as_it_was_written(percentile: float) -> None:
    calibrator = Calibrator.model_validate({"percentile": percentile})
    assert calibrator.model_dump() == {"percentile": percentile}
    assert Calibrator.model_validate(calibrator.model_dump()) == calibrator
    assert float(str(calibrator).removeprefix("percentile ")) == percentile


def test_whole_percentiles_are_numbers_too() -> None:
    assert str(Calibrator.model_validate({"percentile": 100})) == "percentile 100"
    assert Calibrator.model_validate({"percentile": 99}).percentile == 99.0


@pytest.mark.parametrize(("method", "collector"), [("max", "max"), ("mse", "histogram"), ("entropy", "histogram")])
def test_what_is_collected_follows_from_the_solver(method: str, collector: str) -> None:
    assert Calibrator.model_validate(method).collector == collector
    assert Calibrator.model_validate({"percentile": 99.9}).collector == "histogram"


@for_each(
    ("value", "message"),
    [
        ("percentle", "unknown calibrator 'percentle'. Did you mean 'percentile'"),
        ("percentile", "percentile needs its value: {percentile: 99.99}"),
        ({"percentile": None}, "percentile needs its value"),
        ({"percentile": 0}, "greater than 0"),
        ({"percentile": -1}, "greater than 0"),
        ({"percentile": 100.001}, "less than or equal to 100"),
        ({"percentile": 101}, "less than or equal to 100"),
        ({"percentile": "99"}, "valid number"),
        ({"percentile": True}, "valid number"),
        ({"percentile": float("nan")}, "finite number"),
        ({"method": "max", "percentile": 99.9}, "max has no percentile"),
        ({"method": "maxx"}, "'max', 'percentile', 'mse' or 'entropy'"),
        ({}, "expected max, mse, entropy or {percentile: 99.99}"),
        (5, "expected max, mse, entropy or {percentile: 99.99}"),
        (["max"], "expected max, mse, entropy or {percentile: 99.99}"),
    ],
)
def test_refuses(value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Calibrator.model_validate(value)
    assert message in str(caught.value)


def test_the_known_methods_are_those_of_the_type() -> None:
    assert {Calibrator.model_validate({"percentile": 9} if m == "percentile" else m).method for m in METHODS} == {
        *METHODS
    }
