"""From a choice of candidates to the rules of a recipe: as few as say it, each with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qzoo.schema.candidates import Changes
from qzoo.schema.rule import RESIDUAL, ROLES

NO_RESIDUAL = "none"
"""What a rule says for a residual addition in float."""
RuleText = dict[str, Any]
"""A rule as a recipe has it: `match`, and what it says of roles."""


def rule_for(in_float: RuleText, changes: Changes) -> RuleText | None:
    """Returns the rule that gives a layer, or an operator, a candidate; None where the candidate changes nothing of it.

    Args:
        in_float: the rule that leaves it in float: it names the layer, and the roles that it has quantizers for.
        changes: what the candidate says.

    Example:
        >>> rule_for({"match": {"name": "fc"}, "weight": False, "input": False}, {"weight": {"bits": 4}})
        {'match': {'name': 'fc'}, 'weight': {'bits': 4}}
    """
    said: dict[str, Any] = {}
    for role in (role for role in (*ROLES, RESIDUAL) if role in in_float):
        patch = changes.get("weight" if role == "weight" else "input", {})
        if patch is False:
            said[role] = NO_RESIDUAL if role == RESIDUAL else False
        elif patch:
            said[role] = dict(patch)
    return {"match": in_float["match"], **said} if said else None


def chosen_rules(choices: Iterable[tuple[Sequence[RuleText], Changes, str]]) -> list[RuleText]:
    """Returns the rules for groups of layers; what is said alike, and for one reason, stands in one rule.

    Args:
        choices: for each group the rules that leave it in float, what its candidate changes, and why.
    """
    merged: dict[str, RuleText] = {}
    for in_float, changes, why in choices:
        for rule in filter(None, (rule_for(one, changes) for one in in_float)):
            match, said = rule["match"], {role: patch for role, patch in rule.items() if role != "match"}
            key = repr((match.get("op"), said, why))
            one = merged.setdefault(key, {"match": {**match, "name": []}, **said, "why": why})
            if match["name"] not in one["match"]["name"]:
                one["match"]["name"].append(match["name"])
    return [_short(rule) for rule in merged.values()]


def _short(rule: RuleText) -> RuleText:
    names = rule["match"]["name"]
    return {**rule, "match": {**rule["match"], "name": names[0] if len(names) == 1 else names}}


def same_for_all(groups: Mapping[str, Sequence[RuleText]], changes: Changes, why: str) -> list[RuleText]:
    """Returns the rules that give every group one candidate."""
    return chosen_rules((in_float, changes, why) for in_float in groups.values())
