"""The base of all that is read from files: it takes no key and no value that it does not know, and says so in words."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from qzoo.errors import ArgumentError, QzooError, WeightsError, did_you_mean, shown
from qzoo.schema.limits import FieldPath

Fields = TypeVar("Fields", bound=BaseModel)

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


def checked_fields(model: type[Fields]) -> type[Fields]:
    """Returns a schema class, changed in place, whose constructor says what is wrong in the words of a recipe's errors.

    What reads data, `model_validate`, raises pydantic's errors as before: they have the places.

    Raises:
        ArgumentError: by the constructor: a field is unknown, missing or of a wrong type or value.
    """

    def checked(self: Fields, /, *unnamed: Any, **fields: Any) -> None:
        if unnamed:
            raise ArgumentError(f"{model.__name__}() got {unnamed[0]!r}; name its fields: {', '.join(keys_of(model))}.")
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
    if problem["loc"][-1:] == ("[key]",):
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


ModelName = Annotated[str, Field(max_length=200, pattern=r"^([^/\\\x00-\x1f.][^/\\\x00-\x1f]*)?$")]
"""The name of a base or a variant: it becomes part of file names, so it must not lead out of a folder."""


class StrictModel(BaseModel):
    """Refuses unknown keys, wrong types, NaN and infinity; can't be changed after it is made."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


LARGEST_TEXT = 4_000_000
"""Bytes of any text file of a hub model."""
M = TypeVar("M", bound=StrictModel)


def read_json_file(path: Path, model: type[M], remedy: str, error: type[QzooError] = WeightsError) -> M:
    """Returns what a JSON file holds.

    Args:
        path: the path of the file.
        model: what it has to be.
        remedy: ends the message about a file that can't be used.
        error: what is raised about it.

    Raises:
        QzooError: of the type that is given: the file is missing, has more than 4 MB, is no JSON in UTF-8, or a field
            is missing, unknown or of a wrong type or value; names the field.
    """
    if not path.is_file():
        raise error(f"No file at {path}. {remedy}")
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise error(f"{path} has {size / 1e6:,.0f} MB, more than {LARGEST_TEXT / 1e6:.0f} MB. {remedy}")
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as failed:
        first = failed.errors(include_url=False)[0]
        field = shown(".".join(map(str, first["loc"])) or "the file")
        raise error(f"{path}: {field}: {shown(first['msg']).removeprefix('Value error, ')}. {remedy}") from failed
