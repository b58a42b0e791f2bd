"""YAML as data with line numbers: values and names only, nothing that executes.

Scalars follow YAML 1.2's core schema: `1e-4` is a float, `no` a string, and dates stay strings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from qzoo.errors import RecipeError

FieldPath = tuple[str | int, ...]
Lines = dict[FieldPath, int]

LARGEST_FILE = 1_000_000
MOST_NODES = 100_000
DEEPEST = 30

_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "map", "seq")}


class _CoreLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _kind, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", "nN~"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _first_characters = [*_first, ""] if _kind == "null" else list(_first)
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), _first_characters)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Returns a file's content, and the line of every field in it (counted from 1).

    Raises:
        RecipeError: the file is missing, larger than 1 MB, no text, no YAML, holds a tag such as `!!python/object`, a
            key twice, is nested deeper than 30 levels, or unfolds to more than 100,000 nodes.

    Example:
        >>> data, lines = read_yaml(packaged("schemes/int8.yaml"))  # doctest: +SKIP
        >>> lines[("rules", 0, "match")]  # doctest: +SKIP
        3
    """
    if not path.is_file():
        raise RecipeError(f"There is no recipe file {path}. `qzoo list` shows the recipes that are known.")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise RecipeError(f"{path} has {size / 1e6:.0f} MB; a recipe has at most 1 MB. Is it the file you meant?")
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is no text file (byte {error.start} is not UTF-8), so no recipe.") from error


def parse_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Returns a text's content and the line of every field in it; `where` names it in errors."""
    try:
        _refuse_deep(text, where)
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
            walk = _Walk(loader, where)
            return (walk.value(node, ()) if node is not None else None), walk.lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not YAML: {_reason(error)}.") from error


def _refuse_deep(text: str, where: str) -> None:
    # The composer recurses for each level and would take the interpreter down with it; events do not.
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise RecipeError(f"{where}:{line} is nested deeper than {DEEPEST} levels; a recipe needs fewer than ten.")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark is not None else 0


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


class _Walk:
    """Turns nodes into plain values, and notes where each field stands."""

    def __init__(self, loader: Any, where: str) -> None:
        self.loader, self.where = loader, where
        self.lines: Lines = {}
        self.nodes = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        line = _line(node)
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MOST_NODES or len(path) > DEEPEST:
            raise RecipeError(
                f"{self.where}:{line} unfolds to more than {MOST_NODES:,} nodes; write it without aliases."
            )
        if node.tag not in _PLAIN:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise RecipeError(f"{self.where}:{line} holds the tag {tag}: a recipe holds plain values and names only.")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(f"{self.where}:{line} has a key that is no plain word.")
            if key in values:
                raise RecipeError(f"{self.where}:{line} has the key '{key}' twice; the first is in line "
                                  f"{self.lines[(*path, key)]}. Keep one.")  # fmt: skip
            self.lines[(*path, key)] = line
            values[key] = self.value(value_node, (*path, key))
        return values
