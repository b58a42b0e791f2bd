"""From a recipe and the name of a variant to everything that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from qzoo.errors import RecipeError, RuleError, UnknownNameError, did_you_mean
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.digest import digest, plain_fields, variant_content
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.published import Claim
from qzoo.schema.quantizer import QuantizerPatch, contradiction
from qzoo.schema.recipe import Base, CalibrationSpec, ResidualPatch, Variant
from qzoo.schema.rule import ROLES, Rule
from qzoo.schema.yaml_source import FieldPath, Lines, short_path

Patches = dict[str, QuantizerPatch | Literal[False]]
"""By role: what a rule says of the quantizer, or False for float."""


@dataclass(frozen=True)
class Origin:
    """Where a decision was written: file, line and field."""

    file: str
    line: int
    field: str

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
        top_level: it is a field of a variant, which speaks only of the layers with weights that the scheme quantizes.
    """

    names: tuple[str, ...] | None
    types: tuple[str, ...] | None
    patches: Patches
    origin: Origin
    must_match: bool = False
    top_level: bool = False

    def __str__(self) -> str:
        """What it matches, what it says, and where it stands."""
        match = ", ".join([*(self.types or ()), *(self.names or ())]) or "layers with weights"
        said = ", ".join(f"{role} {_patch_text(patch)}" for role, patch in self.patches.items())
        return f"{match}: {said}  ({self.origin})"


@dataclass(frozen=True)
class ResidualSpec:
    """Residual quantizers: where, and what they say beyond the fields of `input`."""

    placement: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class ResolvedVariant:
    """A variant with its scheme and `from` chain merged: nothing else decides its numbers."""

    name: str
    variant: str
    version: int
    base: Base
    dataset: str
    calibration: CalibrationSpec
    rules: tuple[BoundRule, ...]
    residual: ResidualSpec | None
    finetune: FinetuneSpec | None
    published: tuple[Claim, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all that can move a number: not of names, descriptions, claims or line numbers."""
        return digest(variant_content(self))

    @property
    def method(self) -> str | None:
        """How input ranges are found, `percentile 99.99`: what the last general word on inputs says."""
        for rule in reversed(self.rules):
            patch = rule.patches.get("input")
            if isinstance(patch, QuantizerPatch) and patch.calibrator is not None and _is_general(rule):
                return str(patch.calibrator)
        return None

    def to_json(self) -> str:
        """Returns the resolved content as JSON, with name and digest."""
        facts = {"name": self.name, "version": self.version, "digest": self.digest}
        return json.dumps(facts | variant_content(self), indent=2)


def resolve(entry: RecipeEntry, variant: str) -> ResolvedVariant:
    """Returns a variant with everything merged: scheme rules, then fields along the `from` chain, then rules along it.

    Raises:
        UnknownNameError: the recipe has no such variant.
        RecipeError: a scheme is unknown; the message has file, line and the nearest name.
    """
    Catalog.require_variant(entry, variant)
    recipe, chain = entry.recipe, entry.recipe.chain(variant)
    links = [(name, recipe.variants[name]) for name in chain]
    last = links[-1][1]
    return ResolvedVariant(
        name=f"{entry.name}_{variant}",
        variant=variant,
        version=recipe.version,
        base=recipe.base,
        dataset=recipe.dataset,
        calibration=_calibration(recipe.calibration, links),
        rules=(*_scheme_rules(entry, links), *_top_level_rules(entry, links), *_written_rules(entry, links)),
        residual=_residual(entry, links),
        finetune=next((link.finetune for _, link in reversed(links) if link.finetune is not None), None),
        published=tuple(last.published),
    )


def recipe_digest(entry: RecipeEntry) -> str:
    """Returns the SHA-256 over all that can move a number of any variant of a recipe, its schemes included."""
    parts = [f"{name} {resolve(entry, name).digest}" for name in entry.variants]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def resolve_scheme(name: str) -> ResolvedVariant:
    """Returns the rules of a scheme alone, for a model that no recipe describes.

    Raises:
        UnknownNameError: no scheme has the name.
    """
    schemes = Catalog.load().schemes
    if name not in schemes:
        raise UnknownNameError(f"Unknown scheme '{name}'. {did_you_mean(name, schemes)}")
    base = Base(source="qzoo", architecture="user")
    scheme = schemes[name]
    rules = tuple(
        _bound(rule, short_path(scheme.path), scheme.lines, ("rules", n), f"scheme {name}", must_match=False)
        for n, rule in enumerate(scheme.scheme.rules)
    )
    return ResolvedVariant(name, name, 1, base, "user", CalibrationSpec(), rules, None, None, ())


def _scheme_rules(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> list[BoundRule]:
    name = entry.recipe.scheme
    field: tuple[str, ...] = ("scheme",)
    for variant, link in links:
        if link.scheme is not None:
            name, field = link.scheme, ("variants", variant, "scheme")
    if name not in entry.schemes:
        where = f"{entry.where}:{_line(entry.lines, field)}: {'.'.join(field)}"
        raise RecipeError(f"{where}: unknown scheme '{name}'. {did_you_mean(name, entry.schemes)}")
    scheme = entry.schemes[name]
    return [
        _bound(rule, short_path(scheme.path), scheme.lines, ("rules", n), f"scheme {name}", must_match=False)
        for n, rule in enumerate(scheme.scheme.rules)
    ]


def _top_level_rules(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> list[BoundRule]:
    rules = []
    for variant, link in links:
        for role in ROLES:
            patch = getattr(link, role)
            if patch is not None:
                path = ("variants", variant, role)
                origin = Origin(entry.where, _line(entry.lines, path), ".".join(path))
                rules.append(BoundRule(None, None, {role: patch}, origin, must_match=True, top_level=True))
    return rules


def _written_rules(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> list[BoundRule]:
    return [
        _bound(rule, entry.where, entry.lines, ("variants", variant, "rules", n), "", must_match=True)
        for variant, link in links
        for n, rule in enumerate(link.rules)
    ]


def _bound(rule: Rule, file: str, lines: Lines, path: FieldPath, prefix: str, must_match: bool) -> BoundRule:
    field = f"{prefix} {'.'.join(map(str, path))}".strip()
    patches: Patches = {role: getattr(rule, role) for role in ROLES if getattr(rule, role) is not None}
    names = None if rule.match.name is None else tuple(rule.match.name)
    types = None if rule.match.type is None else tuple(rule.match.type)
    return BoundRule(names, types, patches, Origin(file, _line(lines, path), field), must_match)


def _line(lines: Lines, path: FieldPath) -> int:
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)


def _calibration(base: CalibrationSpec, links: list[tuple[str, Variant]]) -> CalibrationSpec:
    changes: dict[str, Any] = {}
    for _, link in links:
        if link.calibration is not None:
            changes |= link.calibration.model_dump(exclude_none=True)
    return base.model_copy(update=changes)


def _residual(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> ResidualSpec | None:
    placement: str | None = None
    fields: dict[str, Any] = {}
    for name, link in links:
        if isinstance(link.residual, ResidualPatch):
            placement = link.residual.placement or placement
            fields |= {key: value for key, value in link.residual.fields().items() if key != "placement"}
        if problem := contradiction(fields):
            path = ("variants", name, "residual")
            raise RuleError(f"{entry.where}:{_line(entry.lines, path)}: {'.'.join(path)}: {problem[1]}")
    return None if placement in (None, "none") else ResidualSpec(str(placement), fields)


def _is_general(rule: BoundRule) -> bool:
    # Which calibrator a method column names: the one of layers with weights, not of pooling or of single layers.
    return rule.top_level or (
        rule.names is None and any("Conv" in name or name == "Linear" for name in rule.types or ())
    )


def _patch_text(patch: QuantizerPatch | Literal[False]) -> str:
    if isinstance(patch, bool):
        return "float"
    return ", ".join(f"{key} {value}" for key, value in plain_fields(patch.fields()).items())
