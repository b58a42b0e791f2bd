"""From a recipe and the name of a variant to everything that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from qzoo.errors import RecipeError, RuleError, UnknownNameError, did_you_mean, shown
from qzoo.schema.calibration import CalibrationSpec
from qzoo.schema.finetune import FinetuneSpec, merged
from qzoo.schema.optimize import STEPS, OptimizeSpec, merged_steps
from qzoo.schema.quantizer import QuantizerPatch, contradiction
from qzoo.schema.reading.catalog import Catalog, RecipeEntry, SchemeEntry
from qzoo.schema.recipe import Base, Claim, Variant
from qzoo.schema.resolution.digest import digest, variant_content
from qzoo.schema.resolution.precedence import (
    BoundRule,
    Origin,
    Precedence,
    ResidualSpec,
    bound,
    general_residual,
    line_of,
    ordered,
    origin_of,
)
from qzoo.schema.rule import RESIDUAL, ROLES


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
    finetune: FinetuneSpec | None
    published: tuple[Claim, ...]
    optimize: OptimizeSpec | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that can move a number: not of names, descriptions, claims or line numbers."""
        return digest(variant_content(self))

    @property
    def residual(self) -> ResidualSpec | None:
        """What it says of residual additions in general; rules may say otherwise of single ones."""
        return general_residual(self.rules)

    @property
    def speaks_of_operators(self) -> bool:
        """Whether any quantizer may stand at an operator that is no layer: a model then has to be traced."""
        return any(rule.ops is not None or rule.places_residuals for rule in self.rules)

    @property
    def method(self) -> str | None:
        """How input ranges are found, `percentile 99.99`: what the last general word on inputs says."""
        calibrator = self.general_input().get("calibrator")
        return None if calibrator is None else str(calibrator)

    def general_input(self) -> dict[str, Any]:
        """Returns the fields of `input` that scheme and variant give to layers with weights in general."""
        return self._general("input")

    def general_weight(self) -> dict[str, Any]:
        """Returns the fields of `weight` that scheme and variant give to layers with weights in general."""
        return self._general("weight")

    def _general(self, role: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for rule in self.rules:
            patch = rule.patches.get(role)
            if rule.is_general and isinstance(patch, QuantizerPatch):
                fields |= patch.fields()
        return fields

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
    entry.require_variant(variant)
    if variant not in entry.resolved:
        entry.resolved[variant] = _resolved(entry, variant)
    found: ResolvedVariant = entry.resolved[variant]
    return found


def _resolved(entry: RecipeEntry, variant: str) -> ResolvedVariant:
    recipe, chain = entry.recipe, entry.recipe.chain(variant)
    links = [(name, recipe.variants[name]) for name in chain]
    last = links[-1][1]
    rules = ordered([*_scheme_rules(entry, links), *_own_rules(entry, links)])
    check_residual(rules)
    return ResolvedVariant(
        name=f"{entry.name}_{variant}",
        variant=variant,
        version=recipe.version,
        base=recipe.base,
        dataset=recipe.dataset,
        calibration=_calibration(recipe.calibration, links),
        rules=rules,
        finetune=_finetune(links),
        published=tuple(last.published),
        optimize=_optimize(links),
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
        raise UnknownNameError(f"Unknown scheme '{shown(name)}'. {did_you_mean(name, schemes)}")
    base = Base(source="qzoo", architecture="user")
    rules = tuple(_rules_of(name, schemes[name]))
    return ResolvedVariant(name, name, 1, base, "user", CalibrationSpec(), rules, None, ())


def _scheme_rules(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> list[BoundRule]:
    name = entry.recipe.scheme
    field: tuple[str, ...] = ("scheme",)
    for variant, link in links:
        if link.scheme is not None:
            name, field = link.scheme, ("variants", variant, "scheme")
    if name not in entry.schemes:
        where = f"{entry.where}:{line_of(entry.lines, field)}: {'.'.join(field)}"
        raise RecipeError(f"{where}: unknown scheme '{shown(name)}'. {did_you_mean(name, entry.schemes)}")
    return list(_rules_of(name, entry.schemes[name]))


def _rules_of(name: str, scheme: SchemeEntry) -> Iterator[BoundRule]:
    file, prefix = scheme.where, f"scheme {name}"
    if scheme.scheme.residual is not None:
        origin = origin_of(file, scheme.lines, (RESIDUAL,), prefix)
        yield BoundRule({RESIDUAL: scheme.scheme.residual}, origin, Precedence.SCHEME)
    for n, rule in enumerate(scheme.scheme.rules):
        yield bound(rule, origin_of(file, scheme.lines, ("rules", n), prefix), Precedence.SCHEME)


def _own_rules(entry: RecipeEntry, links: list[tuple[str, Variant]]) -> Iterator[BoundRule]:
    for variant, link in links:
        origin = partial(_origin_in, entry, variant, link.shared)
        for role in (*ROLES, RESIDUAL):
            patch = getattr(link, role)
            if patch is not None:
                yield BoundRule({role: patch}, origin(role), Precedence.VARIANT)
        for n, rule in enumerate(link.rules):
            yield bound(rule, origin("rules", n), Precedence.RULE)


def _origin_in(entry: RecipeEntry, variant: str, shared: bool, *field: str | int) -> Origin:
    origin = origin_of(entry.where, entry.lines, ("variants", variant, *field))
    return replace(origin, shared=shared or origin.shared)


def check_residual(rules: tuple[BoundRule, ...]) -> None:
    """Refuses what rules say of residual additions in general, where it can't all hold.

    Raises:
        RuleError: no placement is said, or two fields contradict each other; names the place.
    """
    said: dict[str, Any] = {}
    for rule in rules:
        patch = rule.patches.get(RESIDUAL)
        if rule.is_field and isinstance(patch, QuantizerPatch):
            said |= patch.fields()
            where = rule.origin.where
            if "placement" not in said:
                raise RuleError(f"{where}: says no placement. Add one: {{placement: skip, ...}}, or both.")
            if problem := contradiction(said):
                raise RuleError(f"{where}: {problem[1]}")


def _finetune(links: list[tuple[str, Variant]]) -> FinetuneSpec | None:
    # Whether it makes a schedule was looked at when the recipe was read.
    said = [link.finetune for _, link in links if link.finetune is not None]
    return FinetuneSpec.model_validate(merged(said)) if said else None


def _optimize(links: list[tuple[str, Variant]]) -> OptimizeSpec | None:
    steps = merged_steps(link.optimize for _, link in links if link.optimize is not None)
    # A variant that takes back all steps of the one that it builds on has none.
    return OptimizeSpec.model_validate(steps) if steps.keys() & set(STEPS) else None


def _calibration(base: CalibrationSpec, links: list[tuple[str, Variant]]) -> CalibrationSpec:
    changes: dict[str, Any] = {}
    for _, link in links:
        if link.calibration is not None:
            changes |= link.calibration.model_dump(exclude_none=True)
    return base.model_copy(update=changes)
