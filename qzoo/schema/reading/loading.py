"""From a YAML file to a validated recipe, and back. All problems of a file are reported together, with their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from qzoo.errors import Fault, RecipeError, shown
from qzoo.schema.limits import MOST_DIGITS, TOO_DEEP, FieldPath, oversized
from qzoo.schema.model import StrictModel, described, keys_of, path_of
from qzoo.schema.reading.including import Included, SetEntry, include
from qzoo.schema.reading.yaml_source import Line, Lines, parse_yaml, read_yaml, short_path, yaml_text
from qzoo.schema.recipe import Recipe, VariantSet
from qzoo.schema.references import dotted, reference_problems

MOST_PROBLEMS = 30
LONGEST_FIELD = 200
"""Signs of a dotted path."""

_Problem = tuple[FieldPath, Callable[[], str]]
"""A field, and what makes the text on it: of thousands of problems only the first are put into words."""
M = TypeVar("M", bound=StrictModel)


def load_recipe(
    path: Path,
    schemes: Collection[str] | None = None,
    where: str | None = None,
    sets: Mapping[str, SetEntry] | None = None,
) -> tuple[Recipe, Lines]:
    """Returns a recipe and the line of each of its fields.

    Args:
        path: the path of a YAML file.
        schemes: the names of the known schemes; None: they are not looked up.
        where: what messages call it; default: its path.
        sets: the known variant sets; None: what it includes is left to `with_sets`.

    Raises:
        RecipeError: the file can't be read or is no valid recipe; every problem is listed with its line.
    """
    data, lines = read_yaml(path, where)
    found = Included(data, lines, []) if sets is None else include(data, lines, sets)
    recipe = validate(Recipe, found.data, found.lines, where or short_path(path), schemes, found.problems)
    return recipe, found.lines


def load_set(path: Path) -> SetEntry:
    """Returns a variant set.

    Raises:
        RecipeError: the file can't be read or is no valid set; every problem is listed with its line.
    """
    (data, lines), where = read_yaml(path), short_path(path)
    validate(VariantSet, data, lines, where)
    return SetEntry(path.stem, data, where, lines)


def with_sets(recipe: Recipe, sets: Mapping[str, SetEntry], where: str) -> tuple[Recipe, Lines]:
    """Returns a recipe with all that it includes, and the lines of that.

    Args:
        recipe: made in Python, or read without knowing the sets.
        sets: the known ones, by name.
        where: what messages call it.

    Raises:
        RecipeError: a set is unknown, or does not go with another one or with the recipe.
    """
    data = recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    found = include(data, {}, sets)
    return validate(Recipe, found.data, found.lines, where, problems=found.problems), found.lines


def parse_recipe(text: str, where: str = "<text>") -> Recipe:
    """Returns a recipe from YAML or JSON text.

    Example:
        >>> text = "{base: {source: timm, architecture: resnet18}, dataset: imagenet-1k, variants: {int8: {}}}"
        >>> parse_recipe(text).base.architecture
        'resnet18'
    """
    data, lines = _parse(text, where)
    return validate(Recipe, data, lines, where)


def validate(
    model: type[M],
    data: Any,
    lines: Lines,
    where: str,
    schemes: Collection[str] | None = None,
    problems: Iterable[tuple[FieldPath, str]] = (),
) -> M:
    """Returns the validated data; problems that are known before are reported with the others.

    Raises:
        RecipeError: lists every problem with its line, and the nearest name for an unknown key.
    """
    if not isinstance(data, dict):
        words = re.sub(r"\B[A-Z]", r" \g<0>", model.__name__).lower()
        raise RecipeError(
            f"{where} holds {_kind(data)}; a {words} is a mapping with some of the keys "
            f"{', '.join(keys_of(model))}. `qzoo show resnet8_digits` shows one."
        )
    if strange := list(oversized(data)):
        raise _listed([(path, partial(str, text)) for path, text in strange], lines, where)
    found = [*problems, *(reference_problems(data, schemes) if model is Recipe else ())]
    told: list[_Problem] = [(path, partial(str, text)) for path, text in found]
    try:
        valid = model.model_validate(data)
    except ValidationError as error:
        # What the recipe says of itself as a whole are the problems that are listed already.
        own = [problem for problem in error.errors(include_url=False) if problem["loc"] or not told]
        known = {path for path, _ in found}
        told += [
            (path, lambda one=one: described(model, data, one)[1])  # type: ignore[misc]
            for one in own
            if (path := path_of(data, one)) not in known or not path
        ]
    if told:
        raise _listed(told, lines, where)
    return valid


def dump_yaml(recipe: StrictModel) -> str:
    """Returns YAML that loads as an equal recipe."""
    return yaml_text(_plain(recipe))


def dump_json(recipe: StrictModel) -> str:
    """Returns JSON that loads as an equal recipe."""
    return json.dumps(_plain(recipe), indent=2)


def _plain(recipe: StrictModel) -> Any:
    return recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _listed(problems: Sequence[_Problem], lines: Lines, where: str) -> RecipeError:
    """Returns the error that lists problems by line, the first of them in words."""
    faults: dict[Fault, FieldPath] = {}
    waiting = sorted(problems, key=lambda problem: (_line(lines, problem[0]), dotted(problem[0])))
    while waiting and len(faults) < MOST_PROBLEMS:
        path, text = waiting.pop(0)
        line = _line(lines, path)
        faults.setdefault(
            Fault(shown(text()), line.file or where, line or None, line.column, shown(dotted(path), LONGEST_FIELD)),
            path,
        )
    more = len({path for path, _ in waiting} - set(faults.values()))
    rest = [f"{where}: and {more} problems more."] if more else []
    return RecipeError("\n".join([*map(_in_words, faults), *rest]), faults=list(faults))


def _in_words(fault: Fault) -> str:
    place = f"{fault.file}:{fault.line}" if fault.line else f"{fault.file}"
    return f"{place}: {fault.field}: {fault.message}" if fault.field else f"{place}: {fault.message}"


def _line(lines: Lines, path: FieldPath) -> Line:
    """Returns where a field stands, or what holds it; 0 where no lines are known."""
    return next((Line.like(lines[path[:n]]) for n in range(len(path), -1, -1) if path[:n] in lines), Line(0))


def _parse(text: str, where: str) -> tuple[Any, Lines]:
    try:
        return parse_yaml(text, where)
    except RecipeError as error:
        # YAML is nearly, but not wholly, a superset of JSON: escapes of characters beyond 16 bits, tabs, long keys.
        if not isinstance(error.__cause__, yaml.YAMLError):
            raise
        try:
            return _json(text, where), {}
        except json.JSONDecodeError:
            raise error from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, where), parse_int=partial(_whole, where))
    except RecursionError as error:
        raise RecipeError(f"{where} {TOO_DEEP}", faults=[Fault(TOO_DEEP, where)]) from error


def _whole(where: str, digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        # Before Python refuses it, in words of its own, above some thousand digits.
        raise RecipeError(
            f"{where} has the value '{shown(digits, 60)}', a whole number of more than {MOST_DIGITS} digits."
        )
    return int(digits)


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise RecipeError(f"{where} has the key '{shown(name, 60)}' twice. Keep one.")
        values[name] = value
    return values


def _kind(data: Any) -> str:
    words = {type(None): "nothing", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return words.get(type(data), f"a {type(data).__name__}")
