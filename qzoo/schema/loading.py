"""From a YAML file to a validated recipe, and back. All problems of a file are reported together, with their lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from qzoo.errors import RecipeError
from qzoo.schema.model import StrictModel
from qzoo.schema.problems import described, keys_of
from qzoo.schema.recipe import Recipe
from qzoo.schema.references import Problem, dotted, reference_problems
from qzoo.schema.yaml_source import FieldPath, Lines, parse_yaml, read_yaml, short_path, yaml_text

MOST_PROBLEMS = 30

M = TypeVar("M", bound=StrictModel)


def load_recipe(path: Path, schemes: Collection[str] | None = None, where: str | None = None) -> tuple[Recipe, Lines]:
    """Returns a recipe and the line of each of its fields.

    Args:
        path: of a YAML file.
        schemes: the names of the known schemes; None: they are not looked up.
        where: what messages call it; default: its path.

    Raises:
        RecipeError: the file can't be read or is no valid recipe; every problem is listed with its line.
    """
    data, lines = read_yaml(path, where)
    return validate(Recipe, data, lines, where or short_path(path), schemes), lines


def parse_recipe(text: str, where: str = "<text>") -> Recipe:
    """Returns a recipe from YAML or JSON text.

    Example:
        >>> text = "{base: {source: timm, architecture: resnet18}, dataset: imagenet-1k, variants: {int8: {}}}"
        >>> parse_recipe(text).base.architecture
        'resnet18'
    """
    data, lines = _parse(text, where)
    return validate(Recipe, data, lines, where)


def validate(model: type[M], data: Any, lines: Lines, where: str, schemes: Collection[str] | None = None) -> M:
    """Returns the validated data.

    Raises:
        RecipeError: lists every problem with its line, and the nearest name for an unknown key.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{where} holds {_kind(data)}; a {model.__name__.lower()} is a mapping with some of the keys "
            f"{', '.join(keys_of(model))}. `qzoo show resnet8_digits` shows one."
        )
    problems = list(reference_problems(data, schemes)) if model is Recipe else []
    try:
        valid = model.model_validate(data)
    except ValidationError as error:
        # What the recipe says of itself as a whole are the problems that are listed already.
        problems += [described(model, data, problem) for problem in error.errors() if problem["loc"] or not problems]
    if problems:
        raise RecipeError(_listed(problems, lines, where))
    return valid


def dump_yaml(recipe: StrictModel) -> str:
    """Returns YAML that loads as an equal recipe."""
    return yaml_text(_plain(recipe))


def dump_json(recipe: StrictModel) -> str:
    """Returns JSON that loads as an equal recipe."""
    return json.dumps(_plain(recipe), indent=2)


def _plain(recipe: StrictModel) -> Any:
    return recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _listed(problems: list[Problem], lines: Lines, where: str) -> str:
    ordered = sorted({(_line(lines, path), dotted(path), text) for path, text in problems})
    shown = [f"{where}:{line}: {field}: {text}" for line, field, text in ordered[:MOST_PROBLEMS]]
    more = len(ordered) - len(shown)
    return "\n".join([*shown, *([f"{where}: and {more} problems more."] if more else [])])


def _line(lines: Lines, path: FieldPath) -> int:
    return next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 0)


def _parse(text: str, where: str) -> tuple[Any, Lines]:
    try:
        return parse_yaml(text, where)
    except RecipeError as error:
        # YAML is nearly, but not wholly, a superset of JSON: escapes of characters beyond 16 bits, tabs, long keys.
        if isinstance(error.__cause__, yaml.YAMLError):
            with contextlib.suppress(json.JSONDecodeError, RecursionError):
                return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, where)), {}
        raise


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise RecipeError(f"{where} has the key '{name}' twice. Keep one.")
        values[name] = value
    return values


def _kind(data: Any) -> str:
    words = {type(None): "nothing", str: "a text", bool: "a truth value"}
    return words.get(type(data), f"a {type(data).__name__}")
