from __future__ import annotations

import pytest

from tests.each import for_each


def test_all_that_fail_are_told_by_value() -> None:
    @for_each("number, text", lambda: [(1, "a"), (2, "b"), (3, "c")])
    def odd(number: int, text: str) -> None:
        assert number % 2 == 0, text

    with pytest.raises(ExceptionGroup, match="odd fails 2 times") as raised:
        odd()
    assert [error.__notes__ for error in raised.value.exceptions] == [
        ["With number, text = (1, 'a')"],
        ["With number, text = (3, 'c')"],
    ]


def test_an_error_that_is_not_raised_is_told_too() -> None:
    @for_each("value", ["1", "x", 2])
    def no_number(value: object) -> None:
        with pytest.raises(ValueError, match="invalid"):
            int(value)  # type: ignore[call-overload]

    with pytest.raises(ExceptionGroup, match="fails 2 times") as raised:
        no_number()
    assert all("DID NOT RAISE" in str(error) for error in raised.value.exceptions)


class TestStacked:
    seen: set[tuple[int, str]] = set()

    @for_each("number", [1, 2])
    @for_each(("text",), ["a", "b"])
    def test_every_pair_is_seen_and_fixtures_are_given(self, number: int, text: str, request: object) -> None:
        assert request is not None
        self.seen.add((number, text))

    def test_so_it_was(self) -> None:
        if self.seen:  # where the test above ran in this process
            assert self.seen == {(1, "a"), (1, "b"), (2, "a"), (2, "b")}


def test_no_value_at_all_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="no value"):
        for_each("number", [])(lambda number: None)()
