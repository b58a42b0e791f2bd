"""A rule with the place where it was written and its precedence: what resolving makes of schemes and variants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from qzoo.errors import some
from qzoo.schema.limits import FieldPath
from qzoo.schema.quantizer import QuantizerPatch, plain_fields
from qzoo.schema.reading.yaml_source import Line, Lines
from qzoo.schema.rule import LAYER_KINDS, RESIDUAL, ROLES, WEIGHTED, Rule, kinds_named

MOST_LISTED = 50
"""Names that the text of a rule repeats."""
Patches = dict[str, QuantizerPatch | Literal[False]]
"""By role: what a rule says of the quantizer, or False for float."""


class Precedence(IntEnum):
    """Who wins: field by field a later one; within one, the rule that comes later."""

    SCHEME = 0
    """The scheme: its `residual`, then its rules."""
    VARIANT = 1
    """`weight`, `input`, `output` and `residual` along the `from` chain."""
    RULE = 2
    """The rules along the `from` chain."""
    CALL = 3
    """What a call in Python says beside the name."""


@dataclass(frozen=True)
class Origin:
    """Where a decision was written.

    Attributes:
        file: as messages call it.
        line: counted from 1; 0 where there is none.
        field: dotted.
        shared: whether it was written once for many models, so that it may match nothing in one of them.
    """

    file: str
    line: int
    field: str
    shared: bool = False

    @property
    def where(self) -> str:
        """`recipes/schemes/int8.yaml:4: rules.0`, as messages begin; without a line where there is none."""
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.field}"

    @property
    def place(self) -> tuple[str, int | None, int | None, str]:
        """File, line, column and field, for programs; None where there is none."""
        return self.file, self.line or None, Line.like(self.line).column, self.field

    def __str__(self) -> str:
        """`scheme int8 rules.0  recipes/schemes/int8.yaml:4`."""
        return f"{self.field}  {self.file}:{self.line}" if self.line else f"{self.field}  {self.file}"


@dataclass(frozen=True)
class BoundRule:
    """A rule with its origin and precedence.

    Attributes:
        patches: by role.
        origin: where it was written.
        precedence: what it wins over.
        names: globs over module paths; None for all.
        types: class names; None for all.
        ops: globs over functional operators; None for a rule that speaks of layers.
        whole: it speaks of all that stands in the modules that it names: layers, operators and residual additions.
    """

    patches: Patches
    origin: Origin
    precedence: Precedence
    names: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    ops: tuple[str, ...] | None = None
    whole: bool = False

    @property
    def is_field(self) -> bool:
        """Whether it is a field of a scheme, variant or call, which matches by nothing.

        It speaks of all residual additions, and else of the layers with weights that the scheme quantizes.
        """
        return self.names is None and self.types is None and self.ops is None

    @property
    def must_match(self) -> bool:
        """Whether it was written for this one model, so that matching nothing is a mistake."""
        of_all = self.precedence is Precedence.CALL and self.is_field
        return self.precedence > Precedence.SCHEME and not of_all and not self.origin.shared

    @property
    def places_residuals(self) -> bool:
        """Whether it asks for residual quantizers."""
        patch = self.patches.get(RESIDUAL)
        return isinstance(patch, QuantizerPatch) and patch.fields().get("placement") != "none"

    @property
    def is_general(self) -> bool:
        """Whether it speaks of layers with weights as such, not of pooling, of operators or of single layers."""
        kinds = {name.rpartition(".")[2] for name in self.types or ()} & {*LAYER_KINDS[WEIGHTED]}
        return self.is_field or (self.names is None and self.ops is None and bool(kinds))

    @property
    def speaks_of_residual_inputs(self) -> bool:
        """Whether its `input` holds for residual quantizers too, where `residual` leaves fields out.

        A rule of a variant, though it speaks of all linear layers, does not speak of residual additions.
        """
        return self.is_general and "input" in self.patches and (self.is_field or self.precedence is Precedence.SCHEME)

    def __str__(self) -> str:
        """What it matches, what it says, and where it stands."""
        match = some([*(self.ops or ()), *kinds_named(self.types or ()), *(self.names or ())], MOST_LISTED)
        everywhere = "residual additions" if RESIDUAL in self.patches else "layers with weights"
        said = ", ".join(f"{role} {_patch_text(patch)}" for role, patch in self.patches.items())
        return f"{match or everywhere}: {said}  ({self.origin})"


@dataclass(frozen=True)
class ResidualSpec:
    """What a variant says of residual additions in general, beyond the fields of `input`."""

    placement: str
    fields: dict[str, Any]


def bound(rule: Rule, origin: Origin, precedence: Precedence) -> BoundRule:
    """Returns a rule as written with its origin and precedence."""
    patches: Patches = {role: said for role in (*ROLES, RESIDUAL) if (said := getattr(rule, role)) is not None}
    match = rule.match
    return BoundRule(patches, origin, precedence, _all(match.name), _all(match.type), _all(match.op))


def ordered(rules: Iterable[BoundRule]) -> tuple[BoundRule, ...]:
    """Returns rules in the order in which they are applied: by precedence, and within one as they come."""
    return tuple(sorted(rules, key=lambda rule: rule.precedence))


def origin_of(file: str, lines: Lines, path: FieldPath, prefix: str = "") -> Origin:
    """Returns where a field was written."""
    line = Line.like(line_of(lines, path))
    name = f"{prefix} {'.'.join(map(str, path))}".strip()
    return Origin(line.file or file, line, name, shared=line.file is not None)


def line_of(lines: Lines, path: FieldPath) -> int:
    """Returns the line of a field, or of what holds it; 0 if there is none."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)


def general_residual(rules: Iterable[BoundRule]) -> ResidualSpec | None:
    """Returns what scheme and variant say of residual additions in general, merged; None if they place nothing."""
    fields: dict[str, Any] = {}
    for rule in rules:
        patch = rule.patches.get(RESIDUAL)
        if rule.is_field and isinstance(patch, QuantizerPatch):
            fields |= patch.fields()
    placement = fields.pop("placement", "none")
    return None if placement == "none" else ResidualSpec(placement, fields)


def _all(globs: list[str] | None) -> tuple[str, ...] | None:
    return None if globs is None else tuple(globs)


def _patch_text(patch: QuantizerPatch | Literal[False]) -> str:
    if isinstance(patch, bool):
        return "float"
    return ", ".join(f"{key} {value}" for key, value in plain_fields(patch.fields()).items())
