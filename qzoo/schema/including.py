"""What many recipes share, written once: variant sets, which a recipe names with `include`, and named sources.

Both are written out while a recipe is read, so that nothing after that knows of them. All of it is plain data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qzoo.errors import LONGEST_NAME, did_you_mean, shown
from qzoo.schema.limits import FieldPath
from qzoo.schema.yaml_source import Line, Lines

INCLUDE, SOURCES, BLANK = "include", "sources", "{}"
MOST_SETS = 30
"""That a recipe includes: each unknown name is compared with all that are known."""
LONGEST_SOURCE = 500
"""Signs of a text under `sources`, of which every claim may make another one."""
_NAMED = re.compile(r"([a-z0-9][a-z0-9_.]{0,99})(?:\(([^()]*)\))?")
"""`log` or `log(15 epochs)`: the name of a source, and what its text has in place of `{}`."""


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


def with_sources(data: Any) -> Any:
    """Returns a recipe's data with the text of a source in place of each name of one.

    Example:
        >>> claim = {"top1": 76.1, "source": "log(monday)"}
        >>> with_sources({"sources": {"log": "the log of {}"}, "published": claim})["published"]
        {'top1': 76.1, 'source': 'the log of monday'}
    """
    sources = data.get(SOURCES) if isinstance(data, Mapping) else None
    if not isinstance(sources, Mapping) or not sources:
        return data
    variants = data.get("variants")
    written = {name: _claims_with(variant, sources) for name, variant in _mapping(variants).items()}
    return {**_claims_with(data, sources), **({"variants": written} if isinstance(variants, Mapping) else {})}


def _claims_with(holder: Any, sources: Mapping[str, Any]) -> Any:
    if not isinstance(holder, Mapping) or "published" not in holder:
        return holder
    said = holder["published"]
    claims = [_claim_with(claim, sources) for claim in said] if isinstance(said, list) else _claim_with(said, sources)
    return {**holder, "published": claims}


def _claim_with(claim: Any, sources: Mapping[str, Any]) -> Any:
    source = _mapping(claim).get("source")
    text = _written_out(source, sources)
    return claim if text is None else {**claim, "source": text}


def _written_out(source: Any, sources: Mapping[str, Any]) -> str | None:
    named = _NAMED.fullmatch(source) if isinstance(source, str) else None
    text = sources.get(named[1]) if named else None
    if named is None or not isinstance(text, str) or len(text) > LONGEST_SOURCE:
        return None
    return text.replace(BLANK, named[2] or "", 1) if (BLANK in text) == (named[2] is not None) else None


def source_fault(source: Any, sources: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Returns the name in a source that stands for none, and what is wrong if the name is known; None if all is well.

    A word alone is a name, where a recipe names any; everything else is a text of its own.

    Example:
        >>> source_fault("log(monday)", {"log": "the log of somebody"})
        ('log', "the text of 'log' has no {} in place of which 'monday' could stand. Say `log`.")
    """
    named = _NAMED.fullmatch(source) if sources and isinstance(source, str) else None
    if named is None or _written_out(source, sources) is not None:
        return None
    name, word = named.groups()
    if name not in sources:
        return name, None
    if word is None:
        return name, f"the text of '{name}' has a {BLANK}. Say what stands there: `{name}(...)`."
    return name, f"the text of '{name}' has no {BLANK} in place of which '{shown(word)}' could stand. Say `{name}`."


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
        for name, value in _mapping(holder.get(key)).items():
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
        order = _order([str(path[1]) for path in shared if path[0] == "variants"], list(_mapping(data.get("variants"))))
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
    variants = _mapping(merged.get("variants"))
    for path, (n, entry, variant) in taken.items():
        parent = _mapping(variant).get("from")
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


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
