"""Binding rules to the layers of a model: which quantizers it gets, and which rule decided each.

Field by field the last matching rule wins. Knows layers only by name and type, so it needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from qzoo.errors import RuleError
from qzoo.schema.quantizer import QuantizerSpec, contradiction
from qzoo.schema.resolve import BoundRule, Origin, ResolvedVariant
from qzoo.schema.rule import ROLES

IN_ORDER = ("input", "weight", "output")
"""As a layer calls them."""


@dataclass(frozen=True)
class Layer:
    """A layer that rules can speak of.

    Attributes:
        name: module path, `layer1.0.conv1`.
        types: names of its class and of the classes it derives from, plain and with module.
        has_weight: whether there is a weight to quantize.
    """

    name: str
    types: tuple[str, ...]
    has_weight: bool


@dataclass(frozen=True)
class PlannedQuantizer:
    """A quantizer to be made, and why.

    Attributes:
        module: path of the layer.
        role: `input`, `weight` or `output`.
        spec: complete.
        origin: the rule that spoke last.
        field_origins: for each field that a rule set, the rule that set it.
    """

    module: str
    role: str
    spec: QuantizerSpec
    origin: Origin
    field_origins: dict[str, Origin]


@dataclass(frozen=True)
class Plan:
    """Every quantizer of a model, in the order of the model, and the layers that stay in float."""

    quantizers: list[PlannedQuantizer]
    left_float: list[str]


def bind(variant: ResolvedVariant, layers: Sequence[Layer]) -> Plan:
    """Returns the quantizers that a variant's rules give a model's layers.

    Raises:
        RuleError: a rule written in the recipe matches nothing (with its file, line and the three nearest names), or
            rules say what can't both hold of one quantizer.
    """
    drafts = _drafted(variant, layers)
    planned = [
        PlannedQuantizer(layer.name, role, draft.spec(layer.name, role), draft.origin, draft.origins)
        for layer in layers
        for role in IN_ORDER
        if (draft := drafts[layer.name][role]).on and draft.origin is not None
    ]
    quantized = {q.module for q in planned}
    return Plan(planned, [layer.name for layer in layers if layer.has_weight and layer.name not in quantized])


@dataclass
class _Draft:
    """What has been said of one quantizer so far."""

    on: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    origin: Origin | None = None

    def say(self, rule: BoundRule, role: str) -> None:
        patch = rule.patches[role]
        self.origin = rule.origin
        self.on = not isinstance(patch, bool)
        if not isinstance(patch, bool):
            said = patch.fields()
            self.fields |= said
            self.origins |= dict.fromkeys(said, rule.origin)

    def spec(self, layer: str, role: str) -> QuantizerSpec:
        if problem := contradiction(self.fields):
            rules = " and ".join(f"{name}: {self.fields[name]} ({self.origins[name]})" for name in problem[0])
            raise RuleError(f"{layer}.{role}: {problem[1]}. It comes from {rules}.")
        return QuantizerSpec(**self.fields)


Drafts = dict[str, dict[str, _Draft]]


def _drafted(variant: ResolvedVariant, layers: Sequence[Layer]) -> Drafts:
    drafts = {layer.name: {role: _Draft() for role in ROLES} for layer in layers}
    for rule in variant.rules:
        if not rule.must_match:
            _apply(rule, [layer for layer in layers if _matches(rule, layer)], drafts)
    # A variant's own fields speak of the layers with weights that its scheme quantizes, not of all.
    own = [layer for layer in layers if layer.has_weight and any(draft.on for draft in drafts[layer.name].values())]
    faults = []
    for rule in variant.rules:
        if rule.must_match:
            matched = own if rule.top_level else [layer for layer in layers if _matches(rule, layer)]
            faults += [] if _apply(rule, matched, drafts) else [_no_match(variant, rule, layers, matched)]
    if faults:
        raise RuleError("\n".join(faults))
    return drafts


def _apply(rule: BoundRule, matched: Iterable[Layer], drafts: Drafts) -> bool:
    """Returns whether the rule spoke of any quantizer."""
    spoken = [(layer, role) for layer in matched for role in rule.patches if role != "weight" or layer.has_weight]
    for layer, role in spoken:
        drafts[layer.name][role].say(rule, role)
    return bool(spoken)


def _matches(rule: BoundRule, layer: Layer) -> bool:
    return _is_named(rule, layer) and _is_typed(rule, layer)


def _is_named(rule: BoundRule, layer: Layer) -> bool:
    return rule.names is None or any(fnmatchcase(layer.name, glob) for glob in rule.names)


def _is_typed(rule: BoundRule, layer: Layer) -> bool:
    return rule.types is None or any(name in layer.types for name in rule.types)


def _no_match(variant: ResolvedVariant, rule: BoundRule, layers: Sequence[Layer], matched: Sequence[Layer]) -> str:
    where = f"{rule.origin.file}:{rule.origin.line}: {rule.origin.field} of {variant.name}"
    if matched:
        return f"{where} matches only layers without a weight ({matched[0].name}); say `input` or `output` of them."
    if rule.top_level:
        return f"{where} speaks of layers with weights, and the scheme quantizes none."
    named = next((layer for layer in layers if rule.names and _is_named(rule, layer)), None)
    if named is not None:
        return f"{where} matches nothing: {named.name} is a {named.types[0]}, no {' or '.join(rule.types or ())}."
    given = ", ".join(map(repr, [*(rule.names or ()), *(rule.types or ())]))
    near = ", ".join(map(repr, _nearest(rule, layers)))
    return (
        f"{where} matches nothing: {given}. Nearest: {near}. "
        f"`qzoo explain` of a variant without this rule shows all {len(layers)} layers."
    )


def _nearest(rule: BoundRule, layers: Sequence[Layer]) -> list[str]:
    """Returns the three names, of layers or else of types, that look most like what the rule names."""
    given = rule.names or rule.types or ()
    known = (
        [layer.name for layer in layers]
        if rule.names
        else [t for layer in layers for t in layer.types if "." not in t and t[0] != "_"]
    )
    likeness = {
        name: max(SequenceMatcher(None, one.replace("*", ""), name).ratio() for one in given)
        for name in sorted(set(known))
    }
    return sorted(likeness, key=lambda name: -likeness[name])[:3]
