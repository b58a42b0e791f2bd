from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor, ScaledQuantDescriptor
from tests.each import for_each

options = st.fixed_dictionaries(
    {},
    optional={
        "num_bits": st.one_of(st.integers(1, 16), st.just((4, 3))),
        "name": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
        "fake_quant": st.booleans(),
        "axis": st.one_of(st.integers(-2, 3), st.tuples(st.integers(0, 3), st.integers(0, 3))),
        "amax": st.one_of(st.floats(0, 100, width=32), st.lists(st.floats(0, 9, width=32), min_size=1, max_size=3)),
        "scale_amax": st.floats(0.125, 2, width=32),
        "calib_method": st.sampled_from(["max", "histogram"]),
        "unsigned": st.booleans(),
        "narrow_range": st.booleans(),
    },
)


@given(options)
def test_dict_and_yaml_say_all_of_it(said: dict[str, Any]) -> None:
    desc = QuantDescriptor(**said)
    assert QuantDescriptor(**desc.dict()) == desc
    assert QuantDescriptor.from_yaml(desc.to_yaml()) == desc
    for key, value in said.items():
        expected = np.float32(value) if key == "amax" else value
        np.testing.assert_array_equal(getattr(desc, key), expected)


def test_defaults() -> None:
    desc = QuantDescriptor()
    assert desc.dict() == {"num_bits": 8, "name": None}
    assert (desc.axis, desc.amax, desc.calib_method, desc.fake_quant) == (None, None, "max", True)
    assert (desc.learn_amax, desc.unsigned, desc.narrow_range, desc.scale_amax) == (False, False, False, None)
    assert ScaledQuantDescriptor is QuantDescriptor


def test_different_ones_differ() -> None:
    assert QuantDescriptor(amax=[1.0, 2.0]) != QuantDescriptor(amax=[1.0, 3.0])
    assert QuantDescriptor(axis=0) != QuantDescriptor(axis=1)
    assert QuantDescriptor() != "8bit"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({}, "QuantDescriptor(8bit fake axis= per-tensor)"),
        ({"num_bits": 4, "axis": 0, "unsigned": True, "name": "w"}, "w: (unsigned 4bit fake axis=0)"),
        ({"fake_quant": False, "scale_amax": 0.9}, "QuantDescriptor(8bit real axis= per-tensor scale_amax=0.9)"),
        (
            {"amax": 0.5, "learn_amax": True},
            "QuantDescriptor(8bit fake axis= per-tensor amax=0.5 full_range learn_amax)",
        ),
    ],
)
def test_it_prints_as_the_original_does(said: dict[str, Any], text: str) -> None:
    assert str(QuantDescriptor(**said)) == text


@for_each(
    ("said", "error", "message"),
    [
        ({"unsinged": True}, TypeError, "Unused keys: unsinged. Did you mean 'unsigned'?"),
        ({"num_bits": -1}, ValueError, "num_bits must be > 0, not -1."),
        ({"num_bits": "8"}, TypeError, r"num_bits must be a positive integer or tuple \(4,3\), not str '8'"),
        ({"num_bits": (5, 2)}, TypeError, r"tuple \(4,3\), not tuple \(5, 2\)"),
        ({"name": 3}, TypeError, "name must be a string or None, not int"),
        ({"amax": "oops"}, TypeError, "amax must be float, list or ndarray, not str 'oops'"),
        ({"amax": "oops", "learn_amax": True}, TypeError, "amax must be float, list or ndarray"),
        ({"axis": (1, 2), "amax": 0.7, "learn_amax": True}, TypeError, "axis is ignored and must be None when learn"),
        ({"calib_method": "histogramm"}, TypeError, "Unknown calib_method 'histogramm'. Did you mean 'histogram'?"),
    ],
)
def test_mistakes(said: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        QuantDescriptor(**said)


def test_no_bits_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        QuantDescriptor(num_bits=0)
    assert "quantized to all zeros" in caplog.text
