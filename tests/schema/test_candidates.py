import pytest

from qzoo.errors import ArgumentError
from qzoo.schema.candidates import FLOAT, INTEGER_KERNELS, USUAL, candidates
from tests.each import for_each


@for_each(
    "name, changes",
    [
        ("w4a8", {"weight": {"bits": 4, "calibrator": "mse"}, "input": {"bits": 8}}),
        ("w8", {"weight": {"bits": 8}}),
        ("a4", {"input": {"bits": 4}}),
        ("int8_mse", {"weight": {"bits": 8}, "input": {"bits": 8, "calibrator": "mse"}}),
        ("int8_p999", {"weight": {"bits": 8}, "input": {"bits": 8, "calibrator": {"percentile": 99.9}}}),
        ("p99999", {"input": {"calibrator": {"percentile": 99.999}}}),
        ("w8_asym", {"weight": {"bits": 8}, "input": {"symmetric": False, "unsigned": False}}),
        (
            "fp8_max",
            {"weight": {"format": "e4m3"}, "input": {"format": "e4m3", "unsigned": False, "calibrator": "max"}},
        ),
        (FLOAT, {"weight": False, "input": False}),
    ],
)
def test_a_name_says_what_a_rule_would(name: str, changes: object) -> None:
    assert candidates([name, "w2a2"])[name] == changes


def test_the_usual_ones_are_some() -> None:
    assert list(candidates(USUAL)) == [*USUAL]
    assert list(candidates(INTEGER_KERNELS)) == [*INTEGER_KERNELS]


def test_names_of_ones_own_say_what_a_rule_may() -> None:
    mine = {"five": {"weight": {"bits": 5}}, "rest": {}}
    assert candidates(mine) == mine


@for_each(
    "given, told",
    [
        (["w4b8", FLOAT], "'w4b8' is no candidate: 'w4b8' means nothing. Did you mean 'w4a8'?"),
        (["w4a8_msee", FLOAT], "'msee' means nothing"),
        (["w4a8_", FLOAT], "'w4a8_' is no candidate: '' means nothing."),
        (["", FLOAT], "'' is no candidate"),
        (["w4a8"], "at least two candidates; given: w4a8. Such as w8a8"),
        ([], "at least two candidates; given: none."),
        (["w44a8", FLOAT], "The candidate 'w44a8' says of weight: Input should be less than or equal to 16."),
        (
            {"mine": {"weight": {"bit": 3}}, "b": {}},
            "The candidate 'mine' says of weight: Extra inputs are not permitted.",
        ),
        (
            {"mine": {"output": False}, "b": {}},
            "The candidate 'mine' is {'output': False}; expected {weight: ..., input: ...}.",
        ),
        ({"mine": "w4", "b": {}}, "The candidate 'mine' is 'w4'; expected"),
    ],
)
def test_what_means_nothing_is_told(given: list[str], told: str) -> None:
    with pytest.raises(ArgumentError) as error:
        candidates(given)
    assert told in str(error.value)
