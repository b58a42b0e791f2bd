"""Binding rules to the layers of a model: which quantizers it gets, and which rule decided each.

Field by field the last matching rule wins. Knows layers only by name and type, so it needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from qzoo.errors import RuleError, nearest
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.resolve import BoundRule, Origin, ResolvedVariant
from qzoo.schema.rule import ROLES


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
        RuleError: a rule written in the recipe matches nothing; with its file, line and the three nearest names.
    """
    drafts = {layer.name: {role: _Draft() for role in ROLES} for layer in layers}
    for rule in variant.rules:
        matched = [layer for layer in layers if _matches(rule, layer, drafts)]
        effective = [layer for layer in matched if _roles_of(rule, layer)]
        if rule.must_match and not effective:
            raise RuleError(_no_match(variant, rule, layers, matched))
        for layer in effective:
            for role in _roles_of(rule, layer):
                drafts[layer.name][role].apply(rule, role)
    planned = [
        PlannedQuantizer(layer.name, role, draft.spec(), draft.origin, draft.origins)
        for layer in layers
        for role, draft in drafts[layer.name].items()
        if draft.on and draft.origin is not None
    ]
    planned.sort(key=lambda q: 0 if q.role == "input" else 1 if q.role == "weight" else 2)
    order = {layer.name: position for position, layer in enumerate(layers)}
    planned.sort(key=lambda q: order[q.module])
    quantized = {q.module for q in planned}
    return Plan(planned, [layer.name for layer in layers if layer.has_weight and layer.name not in quantized])


@dataclass
class _Draft:
    """What has been said of one quantizer so far."""

    on: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    origin: Origin | None = None

    def apply(self, rule: BoundRule, role: str) -> None:
        patch = rule.patches[role]
        self.origin = rule.origin
        self.on = not isinstance(patch, bool)
        if not isinstance(patch, bool):
            said = patch.fields()
            self.fields |= said
            self.origins |= dict.fromkeys(said, rule.origin)

    def spec(self) -> QuantizerSpec:
        return QuantizerSpec(**self.fields)


def _matches(rule: BoundRule, layer: Layer, drafts: dict[str, dict[str, _Draft]]) -> bool:
    if rule.top_level:
        # A variant's own fields speak of the layers with weights that the scheme quantizes, not of all.
        return layer.has_weight and any(draft.on for draft in drafts[layer.name].values())
    named = rule.names is None or any(fnmatchcase(layer.name, glob) for glob in rule.names)
    typed = rule.types is None or any(name in layer.types for name in rule.types)
    return named and typed


def _roles_of(rule: BoundRule, layer: Layer) -> Iterable[str]:
    return [role for role in rule.patches if role != "weight" or layer.has_weight]


def _no_match(variant: ResolvedVariant, rule: BoundRule, layers: Sequence[Layer], matched: Sequence[Layer]) -> str:
    where = f"{rule.origin.file}:{rule.origin.line}: {rule.origin.field} of {variant.name}"
    if matched:
        return f"{where} matches only layers without a weight ({matched[0].name}); say `input` or `output` of them."
    if rule.top_level:
        return f"{where} speaks of layers with weights, and the scheme quantizes none."
    names = {layer.name for layer in layers}
    types = {name for layer in layers for name in layer.types if "." not in name}
    given = [*(rule.names or ()), *(rule.types or ())]
    near = [match for glob in rule.names or () for match in nearest(glob.replace("*", ""), names, most=3)]
    near += [match for name in rule.types or () for match in nearest(name, types, most=3)]
    near = (near or sorted(names if rule.names else types))[:3]
    return (
        f"{where} matches nothing: {', '.join(map(repr, given))}. Nearest: {', '.join(map(repr, near))}. "
        f"`qzoo explain` shows all {len(layers)} layers of a variant."
    )
