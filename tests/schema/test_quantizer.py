from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from qzoo.schema.quantizer import ActivationField, ActivationPatch, QuantizerField, QuantizerPatch, QuantizerSpec
from tests.each import for_each

weight_field: TypeAdapter[Any] = TypeAdapter(QuantizerField)
activation_field: TypeAdapter[Any] = TypeAdapter(ActivationField)


@given(st.integers(2, 16))
def test_bits_from_2_to_16_and_bits_mean_int(bits: int) -> None:
    assert QuantizerPatch(bits=bits).fields() == {"bits": bits, "format": "int"}


@pytest.mark.parametrize("form", ["e4m3", "e5m2"])
def test_an_fp8_format_means_8_bits(form: str) -> None:
    patch = QuantizerPatch.model_validate({"format": form})
    assert patch.fields() == {"format": form, "bits": 8}
    assert patch == QuantizerPatch.model_validate(patch.model_dump())
    assert QuantizerPatch.model_validate({"format": form, "bits": 8}).fields() == patch.fields()


def test_a_patch_says_nothing_of_what_it_leaves_out() -> None:
    assert QuantizerPatch().fields() == {}
    assert QuantizerPatch(unsigned=False, narrow=False).fields() == {"unsigned": False, "narrow": False}


@pytest.mark.parametrize("adapter", [weight_field, activation_field])
def test_false_is_float_and_a_mapping_a_patch(adapter: TypeAdapter[Any]) -> None:
    assert adapter.validate_python(False) is False
    assert adapter.validate_python({"bits": 4}).fields()["bits"] == 4
    assert adapter.validate_python({}).fields() == {}


@for_each("adapter", [weight_field, activation_field])
@for_each("value", [True, 0, 8, 1.5, "int8", "false", []])
def test_other_values_are_told_what_is_expected(adapter: TypeAdapter[Any], value: Any) -> None:
    with pytest.raises(
        ValidationError, match=r"expected fields such as \{bits: 8, calibrator: max\}, or false for float"
    ):
        adapter.validate_python(value)


@for_each(
    ("fields", "message"),
    [
        ({"bits": 1}, "greater than or equal to 2"),
        ({"bits": 17}, "less than or equal to 16"),
        ({"bits": 8.5}, "valid integer"),
        ({"bits": 8.0}, "valid integer"),
        ({"bits": "8"}, "valid integer"),
        ({"bits": True}, "valid integer"),
        ({"bitz": 8}, "Extra inputs are not permitted"),
        ({"format": "fp8"}, "'int', 'e4m3' or 'e5m2'"),
        ({"per": "row"}, "'tensor' or 'channel'"),
        ({"unsigned": 1}, "expected true, false or auto (given: 1)"),
        ({"unsigned": "yes"}, "True, False or 'auto'"),
        ({"narrow": 1}, "valid boolean"),
        ({"format": "e4m3", "bits": 4}, "e4m3 has 8 bits: leave out `bits: 4`, or say `format: int`"),
        ({"format": "e4m3", "unsigned": True}, "e4m3 always has a sign: leave out `unsigned`"),
        ({"format": "e5m2", "unsigned": "auto"}, "e5m2 always has a sign"),
        ({"format": "e5m2", "narrow": True}, "e5m2 is symmetric by itself: leave out `narrow`"),
        ({"unsigned": True, "narrow": True}, "which `unsigned: true` has not"),
        ({"symmetric": 0}, "expected true, false or auto (given: 0)"),
        ({"symmetric": "never"}, "True, False or 'auto'"),
        ({"format": "e4m3", "symmetric": False}, "e4m3 has no zero point: leave out `symmetric`, or say"),
        ({"format": "e5m2", "symmetric": "auto"}, "e5m2 has no zero point"),
        ({"symmetric": False, "unsigned": True}, "with `symmetric: false` a zero point takes the place of `unsigned`"),
        (
            {"symmetric": "auto", "unsigned": "auto"},
            "with `symmetric: auto` a zero point takes the place of `unsigned`",
        ),
        ({"symmetric": False, "narrow": True}, "takes the place of `narrow`: leave out one of them"),
    ],
)
@for_each("model", [QuantizerPatch, ActivationPatch, QuantizerSpec])
def test_refuses(model: type[QuantizerPatch], fields: dict[str, Any], message: str) -> None:
    if model is ActivationPatch and "per" in fields:
        message = "Input should be 'tensor'"
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "e4m3", "unsigned": False, "narrow": False},
        {"unsigned": "auto", "narrow": True},
        {"unsigned": True, "narrow": False},
        {"symmetric": False, "unsigned": False, "narrow": False},
        {"symmetric": True, "format": "e4m3"},
        {"symmetric": True, "unsigned": "auto"},
    ],
)
def test_what_goes_together_is_accepted(fields: dict[str, Any]) -> None:
    assert QuantizerPatch.model_validate(fields).fields().items() >= fields.items()


@pytest.mark.parametrize("symmetric", [False, "auto"])
def test_a_zero_point_replaces_what_was_said_of_the_sign(symmetric: Any) -> None:
    said = QuantizerPatch.model_validate({"symmetric": symmetric}).fields()
    assert said == {"symmetric": symmetric, "unsigned": False, "narrow": False}


def test_a_zero_point_is_told_in_one_line() -> None:
    specs = [QuantizerSpec(symmetric=symmetric, bits=4) for symmetric in (True, False, "auto")]
    assert [str(one) for one in specs] == [
        "4bit per-tensor max",
        "asymmetric 4bit per-tensor max",
        "auto-symmetric 4bit per-tensor max",
    ]


def test_ranges_per_channel_are_for_weights_only() -> None:
    assert weight_field.validate_python({"per": "channel"}).per == "channel"
    with pytest.raises(ValidationError, match="ranges per channel exist for weights only: leave out `per`"):
        activation_field.validate_python({"per": "channel"})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "8bit per-tensor max"),
        ({"bits": 4, "per": "channel", "calibrator": "mse"}, "4bit per-channel mse"),
        ({"unsigned": "auto", "narrow": True}, "auto-signed narrow 8bit per-tensor max"),
        ({"format": "e4m3", "calibrator": {"percentile": 99.99}}, "e4m3 per-tensor percentile 99.99"),
    ],
)
def test_a_spec_is_one_line(fields: dict[str, Any], text: str) -> None:
    assert str(QuantizerSpec.model_validate(fields)) == text
