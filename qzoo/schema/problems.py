"""What is wrong with the data of a recipe: what is beyond its limits, and pydantic's errors in the words of qzoo.

The limits hold for YAML, JSON and Python alike: size, depth, numbers, text.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from qzoo.errors import ArgumentError, did_you_mean, shown

M = TypeVar("M", bound=BaseModel)

FieldPath = tuple[str | int, ...]

LARGEST_RECIPE = 1_000_000
"""Signs of a file."""
MOST_NODES = 100_000
"""Keys, values and lists of a file, those that aliases stand for included."""
DEEPEST = 30
"""Levels of mappings and lists."""
MOST_DIGITS = 100
"""Of a whole number."""
LONGEST_TEXT = 10_000
"""Signs of one text."""
LONGEST_LIST = 1_000
"""Rules of a variant, globs of a rule ..."""
LARGEST_MAPPING = 5_000
"""Variants, schemes, keys that are none."""
MOST_RULES_APPLIED = 10_000
"""Of all variants, those of schemes and `from` chains counted for each: each goes through a model's layers."""

TOO_DEEP = f"is nested deeper than {DEEPEST} levels; a recipe needs fewer than ten."
TOO_MANY = f"unfolds to more than {MOST_NODES:,} nodes or without end. Write it without aliases."
_TOO_LARGE = 10**MOST_DIGITS


def oversized(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields the path of what no recipe may hold, and what is wrong with it; what comes after may be anything.

    Args:
        data: plain values, in which models may stand; a mapping or list may hold itself.

    Example:
        >>> list(oversized({"version": 10**200}))
        [(('version',), 'is a whole number of more than 100 digits')]
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    seen = 0
    while waiting:
        path, value = waiting.pop()
        seen += 1
        if len(path) > DEEPEST or seen > MOST_NODES:
            yield (path, TOO_DEEP) if len(path) > DEEPEST else ((), TOO_MANY)
            return
        if fault := _fault(value):
            yield path, fault
        if isinstance(value, dict):
            unsound = next((key for key in value if not isinstance(key, str) or not is_sound(key)), None)
            if unsound is not None:
                yield path, f"has the key {ascii(unsound)[:60]}, which is no text"
            waiting += [((*path, key), item) for key, item in value.items() if isinstance(key, str)]
        elif isinstance(value, list | tuple):
            waiting += [((*path, n), item) for n, item in enumerate(value)]


def is_sound(text: str) -> bool:
    r"""Whether a text can be written to a file: JSON's escapes may make half a character, a lone surrogate.

    Example:
        >>> is_sound("\U0001f600"), is_sound("\ud83d")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(value: Any) -> str | None:
    if isinstance(value, int) and not -_TOO_LARGE < value < _TOO_LARGE:
        return f"is a whole number of more than {MOST_DIGITS} digits"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"is a text of {len(value):,} signs; at most {LONGEST_TEXT:,} are taken"
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"is a list of {len(value):,}; at most {LONGEST_LIST:,} are taken. Write a glob for many layers."
    if isinstance(value, dict) and len(value) > LARGEST_MAPPING:
        return f"is a mapping of {len(value):,} keys; at most {LARGEST_MAPPING:,} are taken"
    if isinstance(value, str) and not is_sound(value):
        return "holds half a character (a lone surrogate), which can't be written to a file"
    return None


LONGEST_VALUE = 60


def described(model: type[BaseModel], data: Any, problem: Mapping[str, Any]) -> tuple[FieldPath, str]:
    """Returns the field of a problem, as a path in the data, and a message.

    Args:
        model: what the data were validated against.
        data: as read from the file.
        problem: one of `ValidationError.errors()`.
    """
    path = path_of(data, problem)
    return path, _message(model, path, problem)


def all_described(model: type[BaseModel], data: Any, error: ValidationError) -> str:
    """Returns each problem of an error in one text, as `described` words it: field, what is wrong, what was given."""
    found = [described(model, data, problem) for problem in error.errors(include_url=False)]
    return "; ".join(f"{'.'.join(map(str, path))}: {text}" if path else text for path, text in found)


def checked_fields(model: type[M]) -> type[M]:
    """Returns a schema class, changed in place, whose constructor says what is wrong in the words of a recipe's errors.

    What reads data, `model_validate`, raises pydantic's errors as before: they have the places.

    Raises:
        ArgumentError: by the constructor: a field is unknown, missing or of a wrong type or value.
    """

    def checked(self: M, /, **fields: Any) -> None:
        try:
            BaseModel.__init__(self, **fields)
        except ValidationError as error:
            raise ArgumentError(f"{model.__name__}(): {all_described(model, fields, error)}") from None

    model.__init__ = checked  # type: ignore[method-assign, assignment]
    return model


def path_of(data: Any, problem: Mapping[str, Any]) -> FieldPath:
    """Returns the field of a problem alone."""
    return tuple(_path_in(data, problem["loc"], missing=problem["type"] == "missing"))


def keys_of(model: type[BaseModel]) -> list[str]:
    """Returns the keys that a mapping may have.

    Example:
        >>> from qzoo.schema.rule import Match
        >>> keys_of(Match)
        ['name', 'type', 'op']
    """
    return [field.alias or name for name, field in model.model_fields.items()]


def _message(model: type[BaseModel], path: FieldPath, problem: Mapping[str, Any]) -> str:
    kind, given, name = problem["type"], problem["input"], str(path[-1]) if path else ""
    if kind in ("extra_forbidden", "missing"):
        return _key_message(_fields_at(model, path[:-1]), name, known=kind == "missing")
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["loc"][-1] == "[key]":
        given = shown(name, LONGEST_VALUE)
        return f"'{given}' is no name: lower-case letters, digits, _ and . are, and a letter or digit comes first"
    expected = str(problem.get("ctx", {}).get("expected", ""))
    if kind == "literal_error" and isinstance(given, str):
        known = [
            word.strip(" '") for word in expected.replace("True, False", "true, false").replace(" or ", ", ").split(",")
        ]
        return f"unknown value '{shown(given, LONGEST_VALUE)}'. {did_you_mean(given, known)}"
    return _of_type(model, path, problem)


def _of_type(model: type[BaseModel], path: FieldPath, problem: Mapping[str, Any]) -> str:
    kind, given = problem["type"], problem["input"]
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(_fields_at(model, path))
        return f"expected a mapping with some of the keys {keys}, or {{}} (given: {_shown(given)})"
    if kind == "too_short":
        return f"at least one is needed. {_description(model, path)}".rstrip()
    if kind == "string_pattern_mismatch":
        # A pattern says less than words do.
        return f"'{shown(given, LONGEST_VALUE)}' does not fit {problem['ctx']['pattern']}. {_description(model, path)}"
    return f"{problem['msg']} (given: {_shown(given)})"


def _description(model: type[BaseModel], path: FieldPath) -> str:
    field = _fields_at(model, path[:-1]).get(str(path[-1])) if path else None
    return (field.description or "") if field else ""


def _key_message(siblings: Mapping[str, FieldInfo], name: str, known: bool) -> str:
    if known:
        return f"this field is missing. {siblings[name].description or ''}".rstrip()
    return f"unknown key '{shown(name, LONGEST_VALUE)}'. {did_you_mean(name, siblings)}"


def _shown(given: Any) -> str:
    if isinstance(given, dict | list) and len(given) > LONGEST_VALUE:
        return f"{'a mapping' if isinstance(given, dict) else 'a list'} of {len(given):,}"
    text = shown(json.dumps(given, default=repr, ensure_ascii=False), 10 * LONGEST_VALUE)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " ..."


def _path_in(data: Any, location: tuple[str | int, ...], missing: bool) -> Iterator[str | int]:
    """Yields the parts of Pydantic's location that are fields: the tags of unions are not."""
    for position, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and position == len(location) - 1):
                continue
        yield part


def _fields_at(model: type[BaseModel], path: FieldPath) -> dict[str, FieldInfo]:
    """Returns the fields that a recipe may have at a path."""
    models, parts = [model], list(path)
    while parts:
        field = _fields_of(models).get(str(parts.pop(0)))
        if field is None:
            continue
        models = list(_models_in(field.annotation))
        if typing.get_origin(field.annotation) is dict and parts:
            parts.pop(0)
    return _fields_of(models)


def _fields_of(models: list[type[BaseModel]]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
