"""A rule with the place where it was written: what resolving makes of schemes and variants, and what binding reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from qzoo.errors import some
from qzoo.schema.digest import plain_fields
from qzoo.schema.limits import FieldPath
from qzoo.schema.quantizer import QuantizerPatch
from qzoo.schema.rule import RESIDUAL, ROLES, Rule
from qzoo.schema.yaml_source import Line, Lines

MOST_LISTED = 50
"""Names that the text of a rule repeats."""
Patches = dict[str, QuantizerPatch | Literal[False]]
"""By role: what a rule says of the quantizer, or False for float."""


@dataclass(frozen=True)
class Origin:
    """Where a decision was written: file, line and field."""

    file: str
    line: int
    field: str

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
    """A rule with its origin.

    Attributes:
        names: globs over module paths; None for all.
        types: class names; None for all.
        patches: by role.
        origin: where it was written.
        must_match: it was written in the recipe, so matching nothing is a mistake.
        top_level: it is a field of a scheme or variant, which speaks of all residual additions, and else only of the
            layers with weights that the scheme quantizes.
        ops: globs over functional operators; None for a rule that speaks of layers.
    """

    names: tuple[str, ...] | None
    types: tuple[str, ...] | None
    patches: Patches
    origin: Origin
    must_match: bool = False
    top_level: bool = False
    ops: tuple[str, ...] | None = None

    @property
    def places_residuals(self) -> bool:
        """Whether it asks for residual quantizers."""
        patch = self.patches.get(RESIDUAL)
        return isinstance(patch, QuantizerPatch) and patch.fields().get("placement") != "none"

    @property
    def is_general(self) -> bool:
        """Whether it speaks of layers with weights as such, not of pooling, of operators or of single layers."""
        weighted = any("Conv" in name or name == "Linear" for name in self.types or ())
        return self.top_level or (self.names is None and self.ops is None and weighted)

    def __str__(self) -> str:
        """What it matches, what it says, and where it stands."""
        match = some([*(self.ops or ()), *(self.types or ()), *(self.names or ())], MOST_LISTED)
        everywhere = "residual additions" if RESIDUAL in self.patches else "layers with weights"
        said = ", ".join(f"{role} {_patch_text(patch)}" for role, patch in self.patches.items())
        return f"{match or everywhere}: {said}  ({self.origin})"


@dataclass(frozen=True)
class ResidualSpec:
    """What a variant says of residual additions in general, beyond the fields of `input`."""

    placement: str
    fields: dict[str, Any]


def bound(rule: Rule, file: str, lines: Lines, path: FieldPath, prefix: str, must_match: bool) -> BoundRule:
    """Returns a rule with its origin.

    Args:
        rule: as written.
        file: for messages.
        lines: of the file's fields.
        path: of the rule in the file.
        prefix: before the field in messages, `scheme int8`.
        must_match: see `BoundRule`.
    """
    patches: Patches = {role: said for role in (*ROLES, RESIDUAL) if (said := getattr(rule, role)) is not None}
    match, origin = rule.match, origin_of(file, lines, path, prefix)
    return BoundRule(_all(match.name), _all(match.type), patches, origin, must_match, ops=_all(match.op))


def origin_of(file: str, lines: Lines, path: FieldPath, prefix: str = "") -> Origin:
    """Returns where a field was written."""
    return Origin(file, line_of(lines, path), f"{prefix} {'.'.join(map(str, path))}".strip())


def line_of(lines: Lines, path: FieldPath) -> int:
    """Returns the line of a field, or of what holds it; 0 if there is none."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)


def general_residual(rules: Iterable[BoundRule]) -> ResidualSpec | None:
    """Returns what scheme and variant say of residual additions in general, merged; None if they place nothing."""
    fields: dict[str, Any] = {}
    for rule in rules:
        patch = rule.patches.get(RESIDUAL)
        if rule.top_level and isinstance(patch, QuantizerPatch):
            fields |= patch.fields()
    placement = fields.pop("placement", "none")
    return None if placement == "none" else ResidualSpec(placement, fields)


def _all(globs: list[str] | None) -> tuple[str, ...] | None:
    return None if globs is None else tuple(globs)


def _patch_text(patch: QuantizerPatch | Literal[False]) -> str:
    if isinstance(patch, bool):
        return "float"
    return ", ".join(f"{key} {value}" for key, value in plain_fields(patch.fields()).items())
