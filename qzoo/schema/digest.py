"""What can move a variant's numbers, as plain data, and its digest. Two spellings of one thing come to one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qzoo.schema.quantizer import QuantizerPatch
from qzoo.schema.recipe import SHORTEST_SHA256, Base

if TYPE_CHECKING:
    from qzoo.schema.bound_rule import BoundRule
    from qzoo.schema.resolve import ResolvedVariant


def digest(content: dict[str, Any]) -> str:
    """Returns the SHA-256 of plain data, whatever the order of its keys.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def variant_content(variant: ResolvedVariant) -> dict[str, Any]:
    """Returns everything of a variant that can move a number, as JSON-ready data."""
    finetune = variant.finetune
    return {
        "base": _base(variant.base),
        "dataset": variant.dataset,
        # allow_leak permits a split; which one it is stands beside it.
        "calibration": variant.calibration.model_dump(mode="json", exclude={"allow_leak"}),
        "rules": _rules(variant.rules),
        "residual": _residual(variant.rules),
        # Without defaults, so that a field that a later version adds changes no older recipe.
        "finetune": None if finetune is None else finetune.model_dump(mode="json", exclude_defaults=True),
    }


def plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns a patch's fields with the calibrator in words.

    Example:
        >>> plain_fields(QuantizerPatch.model_validate({"bits": 4, "calibrator": {"percentile": 99.9}}).fields())
        {'bits': 4, 'calibrator': 'percentile 99.9', 'format': 'int'}
    """
    return {key: str(value) if key == "calibrator" else value for key, value in fields.items()}


def _base(base: Base) -> dict[str, Any]:
    # Any number of digits pins the same file, so writing more of them changes nothing.
    content: dict[str, Any] = base.model_dump(mode="json", exclude_none=True)
    for pinned in (content, content.get("package", {})):
        if "sha256" in pinned:
            pinned["sha256"] = pinned["sha256"][:SHORTEST_SHA256]
    return content


def _rules(rules: Sequence[BoundRule]) -> list[dict[str, Any]]:
    shared = [_rule(rule) for rule in rules if not rule.must_match and not rule.top_level]
    # What is said of residual additions in general has a place of its own.
    fields = [rule for rule in rules if rule.top_level and "residual" not in rule.patches]
    written = [_rule(rule) for rule in rules if rule.must_match and not rule.top_level]
    return [*shared, *([_fields(fields)] if fields else []), *written]


def _residual(rules: Sequence[BoundRule]) -> list[dict[str, Any]] | None:
    """Returns all that is said of residual additions, in the order in which it is said; None where nothing is."""
    said: list[dict[str, Any]] = []
    for rule in rules:
        patch = rule.patches.get("residual")
        if isinstance(patch, QuantizerPatch):
            match = {"names": _any_of(rule.names), "types": _any_of(rule.types)}
            # A `from` chain says in several steps what one variant could say at once.
            before = said.pop()["fields"] if rule.top_level and said and said[-1]["match"] == match else {}
            said.append({"match": match, "fields": before | plain_fields(patch.fields())})
    return said or None


def _rule(rule: BoundRule) -> dict[str, Any]:
    patches = {role: patch and plain_fields(patch.fields()) for role, patch in rule.patches.items()}
    ops = {} if rule.ops is None else {"ops": _any_of(rule.ops)}
    return {"names": _any_of(rule.names), "types": _any_of(rule.types), **ops, **patches}


def _fields(rules: Sequence[BoundRule]) -> dict[str, Any]:
    """Returns the fields of a `from` chain as if one variant had written them all."""
    merged: dict[str, Any] = {}
    for role, patch in (item for rule in rules for item in rule.patches.items()):
        said = plain_fields(patch.fields()) if isinstance(patch, QuantizerPatch) else {}
        merged[role] = merged.get(role, {}) | {"on": not isinstance(patch, bool)} | said
    return {"top_level": True, **merged}


def _any_of(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))
