"""What can move a variant's numbers, as plain data, and its digest. Two spellings of one thing come to one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from qzoo.schema.calibration import CalibrationSpec
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.optimize import OptimizeSpec
from qzoo.schema.quantizer import QuantizerPatch, plain_fields
from qzoo.schema.recipe import SHORTEST_SHA256, Base
from qzoo.schema.resolution.precedence import BoundRule, Precedence


class Numbers(Protocol):
    """Whatever decides the numbers of a variant: `ResolvedVariant`."""

    @property
    def base(self) -> Base:
        """The float model."""

    @property
    def dataset(self) -> str:
        """What it is calibrated and evaluated on."""

    @property
    def calibration(self) -> CalibrationSpec:
        """On which images."""

    @property
    def rules(self) -> tuple[BoundRule, ...]:
        """In the order in which they are applied."""

    @property
    def finetune(self) -> FinetuneSpec | None:
        """How it is trained after calibration; None if it is not."""

    @property
    def optimize(self) -> OptimizeSpec | None:
        """What happens to its weights after calibration; None if nothing does."""


def digest(content: dict[str, Any]) -> str:
    """Returns the SHA-256 of plain data, whatever the order of its keys.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def variant_content(variant: Numbers) -> dict[str, Any]:
    """Returns everything of a variant that can move a number, as JSON-ready data."""
    finetune, optimize = variant.finetune, variant.optimize
    return {
        "base": _base(variant.base),
        "dataset": variant.dataset,
        "calibration": _calibration(variant.calibration),
        "rules": _rules(variant.rules),
        "residual": _residual(variant.rules),
        # Without defaults, so that a field that a later version adds changes no older recipe.
        "finetune": None if finetune is None else finetune.model_dump(mode="json", exclude_defaults=True),
        # A recipe of before there were such steps keeps its digest.
        **({} if optimize is None else {"optimize": optimize.model_dump(mode="json", exclude_defaults=True)}),
    }


def _calibration(spec: CalibrationSpec) -> dict[str, Any]:
    # allow_leak permits a split; which one it is stands beside it. Images were all there was once.
    known = {"allow_leak"} | (set() if spec.is_data_free else {"source"})
    return spec.model_dump(mode="json", exclude=known)


def _base(base: Base) -> dict[str, Any]:
    # Any number of digits pins the same file, so writing more of them changes nothing.
    content: dict[str, Any] = base.model_dump(mode="json", exclude_none=True)
    for pinned in (content, content.get("package", {})):
        if "sha256" in pinned:
            pinned["sha256"] = pinned["sha256"][:SHORTEST_SHA256]
    return content


def _rules(rules: Sequence[BoundRule]) -> list[dict[str, Any]]:
    # What is said of residual additions in general has a place of its own.
    spoken = [rule for rule in rules if not (rule.is_field and "residual" in rule.patches)]
    written = [rule for rule in spoken if rule.precedence < Precedence.CALL]
    fields = [rule for rule in written if rule.is_field]
    matching = [rule for rule in written if not rule.is_field]
    return [
        *(_rule(rule) for rule in matching if rule.precedence < Precedence.RULE),
        *([_fields(fields)] if fields else []),
        *(_rule(rule) for rule in matching if rule.precedence is Precedence.RULE),
        # A call comes after all rules, with its fields too.
        *(_fields([rule]) if rule.is_field else _rule(rule) for rule in spoken if rule.precedence is Precedence.CALL),
    ]


def _residual(rules: Sequence[BoundRule]) -> list[dict[str, Any]] | None:
    """Returns all that is said of residual additions, in the order in which it is said; None where nothing is."""
    said: list[dict[str, Any]] = []
    for rule in rules:
        patch = rule.patches.get("residual")
        if isinstance(patch, QuantizerPatch):
            match = {"names": _any_of(rule.names), "types": _any_of(rule.types)}
            # A `from` chain says in several steps what one variant could say at once.
            before = said.pop()["fields"] if rule.is_field and said and said[-1]["match"] == match else {}
            said.append({"match": match, "fields": before | plain_fields(patch.fields())})
    return said or None


def _rule(rule: BoundRule) -> dict[str, Any]:
    patches = {role: patch and plain_fields(patch.fields()) for role, patch in rule.patches.items()}
    more: dict[str, Any] = {} if rule.ops is None else {"ops": _any_of(rule.ops)}
    more |= {"whole": True} if rule.whole else {}
    return {"names": _any_of(rule.names), "types": _any_of(rule.types), **more, **patches}


def _fields(rules: Sequence[BoundRule]) -> dict[str, Any]:
    """Returns the fields of a `from` chain as if one variant had written them all."""
    merged: dict[str, Any] = {}
    for role, patch in (item for rule in rules for item in rule.patches.items()):
        said = plain_fields(patch.fields()) if isinstance(patch, QuantizerPatch) else {}
        merged[role] = merged.get(role, {}) | {"on": not isinstance(patch, bool)} | said
    return {"top_level": True, **merged}


def _any_of(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))
