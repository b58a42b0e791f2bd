"""One test over many values, which fails with every value that fails."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def for_each(
    names: str | Sequence[str],
    values: Iterable[Any] | Callable[[], Iterable[Any]],
    ids: Callable[[Any], object] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Takes the place of `pytest.mark.parametrize` where a rule holds for many things and seldom fails.

    Args:
        names: of the arguments that get a value.
        values: one after the other, a tuple where there are several names; a function is called when the test runs, so
            that nothing is read or made while tests are collected.
        ids: what a failure calls a value.
    """
    asked = [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def over_all(*self: Any, **fixtures: Any) -> None:
            failed, found = [], list(values() if callable(values) else values)
            assert found, "there is no value to test with"
            for value in found:
                try:
                    test(*self, **fixtures, **dict(zip(asked, value if len(asked) > 1 else [value], strict=True)))
                except (Exception, pytest.fail.Exception) as raised:
                    error = _as_error(raised)
                    error.add_note(f"With {', '.join(asked)} = {(ids or _shortened)(value)}")
                    failed.append(error)
            if failed:
                raise ExceptionGroup(f"{test.__name__} fails {len(failed)} times", failed)

        signature = inspect.signature(test)
        kept = [parameter for name, parameter in signature.parameters.items() if name not in asked]
        over_all.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return over_all

    return wrap


def _shortened(value: Any) -> str:
    said = repr(value)
    return said if len(said) < 300 else f"{said[:300]}..."


def _as_error(raised: BaseException) -> Exception:
    """Returns what can be told together with others: `pytest.raises` fails with what is no `Exception`."""
    if isinstance(raised, Exception):
        return raised
    if "Timeout" in str(raised):
        raise raised  # the test's time is up, for the values that follow too
    error = AssertionError(str(raised))
    error.__cause__ = raised
    return error
