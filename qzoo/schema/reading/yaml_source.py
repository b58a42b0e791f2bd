"""YAML as data with line numbers: values and names only, nothing that executes.

Scalars follow YAML 1.2's core schema: `1e-4` is a float, `no` a string, and dates stay strings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from qzoo import environment
from qzoo.errors import Fault, RecipeError, escaped, nearest, shown
from qzoo.schema.limits import DEEPEST, LARGEST_RECIPE, MOST_NODES, TOO_DEEP, TOO_MANY, FieldPath, is_sound

Lines = dict[FieldPath, int]


class Line(int):
    """The number of a line, counted from 1, that knows in which column something stands in it.

    Attributes:
        column: counted from 1.
        file: what messages call the file, where it is another one than that of most lines.
    """

    column: int | None = None
    file: str | None = None

    @classmethod
    def of(cls, mark: Any) -> Line:
        """Returns the place of a mark of the YAML library; 0 where there is none."""
        line = cls(0 if mark is None else mark.line + 1)
        line.column = None if mark is None else mark.column + 1
        return line

    @classmethod
    def like(cls, line: int) -> Line:
        """Returns a line as one that may know its column."""
        return line if isinstance(line, Line) else cls(line)

    def within(self, file: str) -> Line:
        """Returns the same line as one of another file."""
        line = Line(self)
        line.column, line.file = self.column, file
        return line


_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "map", "seq")}


class _CoreLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader with YAML 1.2's scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _CoreDumper(yaml.SafeDumper):
    """The safe dumper; it quotes what YAML 1.1 or 1.2 would take for something else than text."""


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
    for _class in (_CoreLoader, _CoreDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), _first_characters)
_CoreDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, _style(text))
)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def _style(text: str) -> str | None:
    # What a terminal obeys, and Unicode's line breaks, come back as themselves only where they are escaped.
    return None if text.replace("\n", "").isprintable() else '"'


def read_yaml(path: Path, where: str | None = None) -> tuple[Any, Lines]:
    """Returns a file's content, and the line of every field in it (counted from 1).

    Args:
        path: the path of the file.
        where: what messages call it; default: its path.

    Raises:
        RecipeError: the file is missing, larger than 1 MB, no text, no YAML, holds a tag such as `!!python/object`, a
            key twice, is nested deeper than 30 levels, or unfolds to more than 100,000 nodes.

    Example:
        >>> data, lines = read_yaml(environment.packaged() / "schemes/int8.yaml")
        >>> lines[("rules", 0, "match")]
        3
    """
    where = where or short_path(path)
    if not path.is_file():
        raise RecipeError(f"There is no recipe file {where}. {_files_like(path)}`qzoo list` shows the known recipes.")
    try:
        _refuse_size(path.stat().st_size, where)
        return parse_yaml(path.read_text(encoding="utf-8"), where)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where} is no text file (byte {error.start} is not UTF-8), so no recipe.") from error
    except OSError as error:
        raise RecipeError(f"{where} can't be read: {error.strerror}.") from error


def short_path(path: Path) -> str:
    """Returns a path relative to the current folder if it lies below it, and a shipped one as `recipes/...`."""
    resolved = path.resolve()
    for folder in (Path.cwd(), environment.packaged().parent):
        if resolved.is_relative_to(folder):
            return str(resolved.relative_to(folder))
    return str(path)


def parse_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Returns a text's content and the line of every field in it; `where` names it in errors.

    Raises:
        RecipeError: the text is no YAML, or holds what `read_yaml` refuses.
    """
    refuse_large(text, where)
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
        raise _no_yaml(error, text, where) from error


def yaml_text(data: Any) -> str:
    """Returns plain data as YAML that `parse_yaml` reads back, fit for a terminal."""
    # What is none to look at stands between double quotes, where YAML has Python's escapes.
    return escaped(yaml.dump(data, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, width=120), kept="\n")


def yaml_line(data: Any) -> str:
    """Returns plain data as YAML on one line, `{match: {name: fc}, input: false}`."""
    text = yaml.dump(data, Dumper=_CoreDumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=9999)
    return escaped(text.rstrip("\n"))


def refuse_large(text: str, where: str) -> None:
    """Refuses what is too large for a recipe, or no text that a file could hold.

    Raises:
        RecipeError: says so.
    """
    _refuse_size(len(text), where)
    if not is_sound(text):
        raise RecipeError(f"{where} is no text: it holds half a character (a lone surrogate).")


def _refuse_size(size: int, where: str) -> None:
    if size > LARGEST_RECIPE:
        raise RecipeError(f"{where} has {size / 1e6:.1f} MB; a recipe has at most 1 MB. Is it the file you meant?")


def _files_like(path: Path) -> str:
    # By what is before the ending, which all have in common.
    files = {file.stem: file.name for file in sorted(path.parent.glob("*.y*ml"))}
    near = nearest(path.stem, files)
    return f"Did you mean '{shown(files[near[0]])}'? " if near else ""


def _refuse_deep(text: str, where: str) -> None:
    # The composer recurses for each level and would take the interpreter down with it; events do not.
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _at(where, Line.of(event.start_mark), TOO_DEEP)


def _no_yaml(error: yaml.YAMLError, text: str, where: str) -> RecipeError:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is None:
        reason = " ".join(str(error).split())
        return RecipeError(f"{where} is not YAML: {reason}.", faults=[Fault(reason, where)])
    place = Line.of(mark)
    reason = _reason(str(getattr(error, "problem", "")), text[mark.index : mark.index + 1], place.column)
    return RecipeError(f"{where}:{place} is not YAML: {reason}.", faults=[Fault(reason, where, place, place.column)])


def _reason(problem: str, sign: str, column: int | None) -> str:
    if sign == "\t":
        return f"found character TAB in column {column}, which YAML does not take there. Indent with spaces"
    if "start any token" in problem:
        return f"found character {sign!r} in column {column}, with which no value begins. Put the text between quotes"
    return f"{problem} (column {column})"


class _Walk:
    """Turns nodes into plain values, and notes where each field stands."""

    def __init__(self, loader: Any, where: str) -> None:
        self.loader, self.where = loader, where
        self.lines: Lines = {}
        self.nodes = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self.lines.setdefault(path, Line.of(node.start_mark))
        self.nodes += 1
        if self.nodes > MOST_NODES or len(path) > DEEPEST:
            raise self._error(node, TOO_MANY)
        self._refuse_tag(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError) as error:
            kind = node.tag.rpartition(":")[2]
            raise self._error(node, f"has the value '{shown(node.value, 60)}', which is no {kind}.") from error

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "has a key that is no plain word.")
            self._refuse_tag(key_node)
            key = key_node.value
            if key in values:
                first = self.lines[(*path, key)]
                raise self._error(
                    key_node, f"has the key '{shown(key, 60)}' twice; the first is in line {first}. Keep one."
                )
            self.lines[(*path, key)] = Line.of(key_node.start_mark)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _refuse_tag(self, node: yaml.Node) -> None:
        if node.tag not in _PLAIN:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(node, f"holds the tag {shown(tag, 60)}: a recipe holds plain values and names only.")

    def _error(self, node: yaml.Node, fault: str) -> RecipeError:
        return _at(self.where, Line.of(node.start_mark), fault)


def _at(where: str, line: Line, fault: str) -> RecipeError:
    return RecipeError(f"{where}:{line} {fault}", faults=[Fault(fault, where, line, line.column)])
