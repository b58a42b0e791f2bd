"""Arguments of public functions, held against their signature: a slip is one message, not an error from inside.

What is checked is what a signature tells: names, and values of plain types, literals and classes. Whatever is of a
protocol, a callable or `Any` is left to the function.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from qzoo.errors import ArgumentError, UnknownNameError, did_you_mean, shown

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def checked(function: F) -> F:
    """Returns a function that tells of arguments it does not take, before it does anything.

    Raises:
        ArgumentError: by the function that is returned: an argument is unknown, missing or of another type; says what
            was given, what is accepted, and what the docstring says of it.

    Example:
        >>> @checked
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double("2")
        Traceback (most recent call last):
        ...
        qzoo.errors.ArgumentError: double() got number='2' of type str; expected int.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        for name, value in _bound(function, signature, given, named).items():
            if signature.parameters[name].kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                require_fit(function, name, value, _hints(function).get(name, Any))
        return function(*given, **named)

    return typing.cast("F", call)


def checked_names(function: F) -> F:
    """Returns a function that tells of arguments that are unknown or missing; their values it checks itself.

    Raises:
        ArgumentError: by the function that is returned.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        _bound(function, signature, given, named)
        return function(*given, **named)

    return typing.cast("F", call)


def _bound(
    function: Callable[..., Any], signature: inspect.Signature, given: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    more = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    known = [name for name in signature.parameters if name != "self"]
    if not more and (strange := [name for name in named if name not in known]):
        raise ArgumentError(f"{_name(function)} has no argument '{strange[0]}'. {did_you_mean(strange[0], known)}")
    try:
        return signature.bind(*given, **named).arguments
    except TypeError as error:
        raise ArgumentError(f"{_name(function)}: {error}. It takes {signature_text(signature)}.") from None


def checked_class(kind: type[T]) -> type[T]:
    """Returns a class, changed in place, whose constructor is checked as `checked` does it."""
    kind.__init__ = checked(kind.__init__)  # type: ignore[method-assign]
    return kind


def require_fit(function: Callable[..., Any], name: str, value: Any, hint: Any) -> None:
    """Refuses a value that is not of the type of an argument.

    Raises:
        ArgumentError: it is not.
        UnknownNameError: it is a word, and none of those that are accepted.
    """
    words = [one for part in (hint, *get_args(hint)) if get_origin(part) is Literal for one in get_args(part)]
    if isinstance(value, str) and words and not fits(value, hint):
        raise UnknownNameError(f"Unknown {name} '{shown(value)}'. {did_you_mean(value, map(str, words))}")
    if Path in (hint, *get_args(hint)) and isinstance(value, str) and (not value or "\0" in value):
        raise ArgumentError(f"{_name(function)} got {name}={value!r}, which names nothing.")
    if not fits(value, hint):
        given = f"{name}={shown(repr(value), 60)} of type {type(value).__name__}"
        says = _documented(function, name)
        raise ArgumentError(f"{_name(function)} got {given}; expected {_words(hint)}{says and f': {says}'}.")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as that can be told; numbers of NumPy are numbers, and paths may be text.

    Example:
        >>> fits(3, int | None), fits("3", int), fits("a", Literal["a", "b"]), fits([1], Any)
        (True, False, True, True)
    """
    kind = get_origin(hint)
    if hint is Any:
        return True
    if kind in (Union, UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if kind is Literal:
        return isinstance(value, str | int) and value in get_args(hint)
    if kind is get_origin(Callable[..., Any]) or getattr(hint, "_is_protocol", False):
        return callable(value) or (kind is None and "__call__" not in vars(hint))
    if isinstance(kind, type) and issubclass(kind, Iterable):
        return _holds(value, kind, get_args(hint))
    accepted = _ACCEPTED.get(hint, hint)
    number = hint in (int, float)
    return isinstance(value, accepted) and not (number and isinstance(value, bool)) if _is_class(accepted) else True


_ACCEPTED: dict[Any, Any] = {int: Integral, float: Real, Path: (str, os.PathLike)}


def _is_class(hint: Any) -> bool:
    return isinstance(hint, type | tuple)


def _holds(value: Any, kind: type, of: tuple[Any, ...]) -> bool:
    """Whether a value holds others of a type, as far as lists, tuples and arrays tell. No text is one of its signs."""
    if not isinstance(value, Mapping if issubclass(kind, Mapping) else Iterable) or isinstance(value, str | bytes):
        return False
    if of[0] is not Any and hasattr(value, "tolist"):
        value = value.tolist()
    return not isinstance(value, list | tuple) or all(fits(one, of[0]) for one in value)


def signature_text(signature: inspect.Signature) -> str:
    """Returns the names of a signature's arguments, those with defaults in brackets."""
    names = [
        name if one.default is one.empty else f"[{name}]"
        for name, one in signature.parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    return ", ".join(names)


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # a type that is imported for type checkers alone
        return {}


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__qualname__.removesuffix('.__init__')}()"


def _words(hint: Any) -> str:
    """Returns a type as people say it."""
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, get_args(hint))))
    if kind is Literal:
        return " or ".join(map(repr, get_args(hint)))
    names = {NoneType: "None", Path: "a path", str: "text", int: "int", float: "float", bool: "True or False"}
    return names.get(hint) or str(getattr(hint, "__name__", hint))


def _documented(function: Callable[..., Any], name: str) -> str:
    """Returns the first sentence that the docstring says of an argument."""
    found = re.search(rf"^ +{name}: (.+(?:\n {{12,}}.+)*)", function.__doc__ or "", re.MULTILINE)
    return re.sub(r"\s+", " ", found[1]).split("; ")[0].rstrip(".") if found else ""
