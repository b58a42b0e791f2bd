"""From a YAML file to a validated recipe, and back. All problems of a file are reported together, with their lines."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from qzoo.errors import RecipeError, did_you_mean
from qzoo.schema.model import StrictModel
from qzoo.schema.recipe import Recipe
from qzoo.schema.yaml_source import FieldPath, Lines, parse_yaml, read_yaml

M = TypeVar("M", bound=StrictModel)


def load_recipe(path: Path) -> tuple[Recipe, Lines]:
    """Returns a recipe and the line of each of its fields.

    Raises:
        RecipeError: the file can't be read or is no valid recipe; every problem is listed with its line.
    """
    data, lines = read_yaml(path)
    return validate(Recipe, data, lines, str(path)), lines


def parse_recipe(text: str, where: str = "<text>") -> Recipe:
    """Returns a recipe from YAML or JSON text.

    Example:
        >>> text = "{base: {source: timm, architecture: resnet18}, dataset: imagenet-1k, variants: {int8: {}}}"
        >>> parse_recipe(text).base.architecture
        'resnet18'
    """
    data, lines = parse_yaml(text, where)
    return validate(Recipe, data, lines, where)


def validate(model: type[M], data: Any, lines: Lines, where: str) -> M:
    """Returns the validated data.

    Raises:
        RecipeError: lists every problem with its line, and the nearest name for an unknown key.
    """
    if not isinstance(data, dict):
        raise RecipeError(f"{where} holds {_kind(data)}; a {model.__name__.lower()} is a mapping of fields.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(model, data, lines, dict(problem)) for problem in error.errors()]
        raise RecipeError("\n".join(f"{where}:{problem}" for problem in dict.fromkeys(problems))) from error


def dump_yaml(recipe: StrictModel) -> str:
    """Returns YAML that loads as an equal recipe."""
    return yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True, width=120)


def dump_json(recipe: StrictModel) -> str:
    """Returns JSON that loads as an equal recipe."""
    return json.dumps(_plain(recipe), indent=2)


def _plain(recipe: StrictModel) -> Any:
    return recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _problem(model: type[BaseModel], data: Any, lines: Lines, problem: dict[str, Any]) -> str:
    path = tuple(_path_in(data, problem["loc"]))
    line = next(lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)
    field = ".".join(map(str, path)) or model.__name__.lower()
    return f"{line}: {field}: {_message(model, path, problem)}"


def _message(model: type[BaseModel], path: FieldPath, problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{path[-1]}'. {did_you_mean(str(path[-1]), _keys_at(model, path[:-1]))}"
    if problem["type"] == "missing":
        return "this field is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    expected = (problem.get("ctx") or {}).get("expected")
    if expected and isinstance(given, str):
        known = [name.strip(" '") for name in expected.replace(" or ", ", ").split(",")]
        return f"unknown value '{given}'. {did_you_mean(given, known)}"
    return message if problem["type"] == "value_error" else f"{message} (given: {given!r})"


def _path_in(data: Any, location: tuple[str | int, ...]) -> Iterator[str | int]:
    """Yields the parts of Pydantic's location that are in the data: the tags of unions are not."""
    for part in location:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):  # noqa: SIM114, mypy needs both
            data = data[part]
        elif part is not location[-1] or part in ("float", "quantizer", "[key]"):
            continue
        yield part


def _keys_at(model: type[BaseModel], path: FieldPath) -> list[str]:
    """Returns the keys that a recipe may have at a path."""
    classes = [model]
    for part in path:
        fields = {field.alias or name: field for c in classes for name, field in c.model_fields.items()}
        if part in fields:
            classes = list(_models_in(fields[str(part)].annotation))
    return [field.alias or name for c in classes for name, field in c.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _kind(data: Any) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"
