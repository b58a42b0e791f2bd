"""What many recipes share, written once: variant sets, which a recipe names with `include`.

They are written out while a recipe is read, so that nothing after that knows of them. All of it is plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qzoo.errors import LONGEST_NAME, did_you_mean, shown
from qzoo.schema.limits import FieldPath, mapping_or_empty
from qzoo.schema.named_sources import SOURCES
from qzoo.schema.reading.yaml_source import Line, Lines
from qzoo.schema.references import INCLUDE

MOST_SETS = 30
"""That a recipe includes: each unknown name is compared with all that are known."""


@dataclass(frozen=True)
class SetEntry:
    """A variant set: its content, which is valid, what messages call its file, and the lines of its fields."""

    name: str
    data: Mapping[str, Any]
    where: str
    lines: Lines = field(repr=False)


@dataclass(frozen=True)
class Included:
    """A recipe's data with those of its sets, the line of each field, and what is wrong with `include`."""

    data: Any
    lines: Lines
    problems: list[tuple[FieldPath, str]]


_Part = tuple[int, SetEntry, Any]
"""The place of a set in `include`, the set, and what it says of one part of a recipe."""
_Parts = Mapping[FieldPath, _Part]


def include(data: Any, lines: Lines, sets: Mapping[str, SetEntry]) -> Included:
    """Returns a recipe's data with all that the sets say that it names; what it says itself goes before.

    Args:
        data: as read from a file, valid or not.
        lines: the lines of its fields. Those of a set know their file.
        sets: the known ones, by name.
    """
    names = _names(data)
    if not names or len(names) > MOST_SETS:
        fault = f"{len(names):,} sets; a recipe includes at most {MOST_SETS}."
        return Included(data, lines, [((INCLUDE,), fault)] if names else [])
    problems = list(_unknown(names, sets))
    chosen = [(n, sets[name]) for n, name in enumerate(names) if name in sets and name not in names[:n]]
    own = {path for path, _ in _parts(data)}
    shared: dict[FieldPath, _Part] = {}
    for n, entry in chosen:
        for path, value in _parts(entry.data):
            if path in shared and path not in own:
                problems.append(((INCLUDE, n), _twice(path, shared[path][1], entry)))
            shared.setdefault(path, (n, entry, value))
    taken = {path: part for path, part in shared.items() if path not in own}
    merged = _merged(data, shared, taken)
    problems += [] if problems else _parents(merged, taken)
    # Where a set is missing or faulty, nobody can say what else is: `include` then stays.
    return Included(merged if problems else merged | {INCLUDE: []}, _lines(lines, taken), problems)


def _names(data: Any) -> list[str]:
    said = data.get(INCLUDE) if isinstance(data, Mapping) else None
    names = [said] if isinstance(said, str) else said
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _unknown(names: list[str], sets: Mapping[str, SetEntry]) -> Iterator[tuple[FieldPath, str]]:
    for n, name in enumerate(names):
        if name not in sets:
            yield (INCLUDE, n), f"unknown variant set '{shown(name, LONGEST_NAME)}'. {did_you_mean(name, sets)}"
        elif name in names[:n]:
            yield (INCLUDE, n), f"the set '{name}' is named twice. Keep one."


def _parts(holder: Mapping[str, Any]) -> Iterator[tuple[FieldPath, Any]]:
    """Yields what a recipe and a set can both say, part by part."""
    if "dataset" in holder:
        yield ("dataset",), holder["dataset"]
    for key in ("calibration", SOURCES, "variants"):
        for name, value in mapping_or_empty(holder.get(key)).items():
            yield (key, name), value


def _twice(path: FieldPath, one: SetEntry, other: SetEntry) -> str:
    places = " and in ".join(f"'{entry.name}' ({_place(entry, path)})" for entry in (one, other))
    return f"{'.'.join(map(str, path))} stands in two sets, in {places}. Include one of them, or say it in the recipe."


def _place(entry: SetEntry, path: FieldPath) -> str:
    return f"{entry.where}:{entry.lines[path]}" if path in entry.lines else entry.where


def _merged(
    data: Mapping[str, Any],
    shared: _Parts,
    taken: _Parts,
) -> dict[str, Any]:
    merged = {key: value for key, value in data.items() if value is not None}  # `variants:` with comments alone
    for path, (_, _, value) in taken.items():
        if len(path) == 1:
            merged[str(path[0])] = value
        elif isinstance(said := merged.get(str(path[0]), {}), Mapping):  # else the recipe's own is wrong, and told of
            merged[str(path[0])] = {**said, path[1]: value}
    variants = merged.get("variants")
    if isinstance(variants, Mapping):
        own = list(mapping_or_empty(data.get("variants")))
        order = _order([str(path[1]) for path in shared if path[0] == "variants"], own)
        merged["variants"] = {name: variants[name] for name in order}
    return merged


def _order(shared: list[str], own: list[str]) -> list[str]:
    """Returns the order of variants: those of sets first, but one of the recipe before what follows it there.

    Example:
        >>> _order(["int8", "int8_max", "fp8"], ["p999", "int8_max", "qat"])
        ['int8', 'p999', 'int8_max', 'fp8', 'qat']
    """
    order, following = list(shared), None
    for name in reversed(own):
        if name not in shared:
            order.insert(len(order) if following is None else order.index(following), name)
        following = name
    return order


def _parents(merged: Mapping[str, Any], taken: _Parts) -> Iterator[tuple[FieldPath, str]]:
    """Yields what included variants build on in vain."""
    variants = mapping_or_empty(merged.get("variants"))
    for path, (n, entry, variant) in taken.items():
        parent = mapping_or_empty(variant).get("from")
        if path[0] == "variants" and isinstance(parent, str) and parent not in variants:
            missing = f"builds on '{parent}', which neither this recipe nor another set of it has"
            yield (INCLUDE, n), f"{path[1]} of the set '{entry.name}' {missing}. {did_you_mean(parent, variants)}"


def _lines(lines: Lines, taken: _Parts) -> Lines:
    found = dict(lines)
    for entry in {entry.name: entry for _, entry, _ in taken.values()}.values():
        found |= {
            path: Line.like(line).within(entry.where)
            for path, line in entry.lines.items()
            if path[:1] in taken or path[:2] in taken
        }
    return found
