"""Binding rules to a model: which quantizers its layers and operators get, and which rule decided each.

Field by field the last matching rule wins. Knows layers and operators only by name and type, so it needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qzoo.errors import Fault, RuleError, shown
from qzoo.schema.quantizer import QuantizerPatch, QuantizerSpec, contradiction
from qzoo.schema.resolution.matching import matches, no_match
from qzoo.schema.resolution.plan import Layer, Operator, Plan, PlannedQuantizer
from qzoo.schema.resolution.precedence import BoundRule, Origin, Precedence
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.schema.rule import RESIDUAL, ROLES

MOST_FAULTS = 20
"""Rules of a variant that match nothing, and that a message speaks of one by one."""
IN_ORDER = ("input", "weight", "output")
"""As a layer calls them."""

Target = Layer | Operator


def bind(variant: ResolvedVariant, layers: Sequence[Layer], operators: Sequence[Operator] = ()) -> Plan:
    """Returns the quantizers that a variant's rules give a model's layers and operators.

    Args:
        variant: resolved.
        layers: all that rules can speak of, in the order of the model.
        operators: all that rules can speak of, in the order of evaluation; needed only where the variant speaks of
            operators.

    Raises:
        RuleError: a rule written in the recipe matches nothing (with its file, line and the three nearest names), or
            rules say what can't both hold of one quantizer.
    """
    drafts = _Drafts(variant, layers, operators)
    planned = [*drafts.of_layers(), *drafts.of_operators()]
    quantized = {q.layer for q in planned}
    sites = {(q.module, site) for q in planned for site in q.sites}
    left_float = [layer for layer in layers if layer.has_weight and layer.name not in quantized]
    return Plan(
        planned,
        [layer.name for layer in left_float],
        [operator for operator in operators if (operator.module, operator.site) not in sites],
        {layer.name: origin for layer in left_float if (origin := drafts.left_by(layer)) is not None},
    )


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
        self.on = isinstance(patch, QuantizerPatch)
        if isinstance(patch, QuantizerPatch):
            said = patch.fields()
            self.fields |= said
            self.origins |= dict.fromkeys(said, rule.origin)

    def over(self, other: _Draft) -> _Draft:
        """Returns this draft with the other's fields where it says nothing itself."""
        return _Draft(self.on, other.fields | self.fields, other.origins | self.origins, self.origin)

    def planned(self, module: str, role: str, **place: Any) -> PlannedQuantizer:
        fields = {name: value for name, value in self.fields.items() if name != "placement"}
        if problem := contradiction(fields):
            rules = " and ".join(f"{name}: {fields[name]} ({self.origins[name]})" for name in problem[0])
            raise RuleError(f"{module}.{role}: {problem[1]}. It comes from {rules}.")
        assert self.origin is not None
        origins = {name: origin for name, origin in self.origins.items() if name != "placement"}
        return PlannedQuantizer(module, role, QuantizerSpec(**fields), self.origin, origins, **place)


class _Drafts:
    """All that the rules say, by target and role."""

    def __init__(self, variant: ResolvedVariant, layers: Sequence[Layer], operators: Sequence[Operator]) -> None:
        self.variant, self.layers, self.operators = variant, layers, operators
        self.drafts: dict[tuple[str, str], _Draft] = {}
        self.residual_base = _Draft()
        self.own: list[Layer] = []
        scheme = [rule for rule in variant.rules if rule.precedence is Precedence.SCHEME]
        for rule in scheme:
            self._apply(rule)
        # A variant's own fields speak of the layers with weights that its scheme quantizes, not of all.
        self.own = [layer for layer in layers if layer.has_weight and any(self._of(layer, role).on for role in ROLES)]
        self._apply_own(variant.rules[len(scheme) :])

    def of_layers(self) -> Iterator[PlannedQuantizer]:
        for layer in self.layers:
            for role in IN_ORDER:
                if (draft := self._of(layer, role)).on:
                    yield from _of_layer(draft, layer, role)

    def left_by(self, layer: Layer) -> Origin | None:
        """Returns where the rule stands that left a layer in float; None where no rule speaks of it."""
        origins = [self._of(layer, role).origin for role in IN_ORDER]
        return next((origin for origin in reversed(origins) if origin is not None), None)

    def of_operators(self) -> Iterator[PlannedQuantizer]:
        for operator in self.operators:
            residual = list(self._residual(operator))
            operands = list(self._operands(operator))
            if residual and operands:
                raise RuleError(
                    f"{operator.name} is a residual addition, and both `residual` ({residual[0].origin}) and `op` "
                    f"({operands[0].origin}) quantize it. Say one: `residual: none`, or `input: false` for the op."
                )
            yield from residual or operands

    def _apply_own(self, rules: Sequence[BoundRule]) -> None:
        idle = [rule for rule in rules if not self._apply(rule) and rule.must_match and not self._is_idle(rule)]
        if idle:
            raise self._no_match(idle)

    def _no_match(self, rules: Sequence[BoundRule]) -> RuleError:
        # Looking for the names that are meant takes far longer than matching.
        texts = [no_match(self.variant.name, rule, self.layers, self.operators) for rule in rules[:MOST_FAULTS]]
        faults = [
            Fault(shown(text.removeprefix(f"{rule.origin.where} ")), *rule.origin.place)
            for rule, text in zip(rules, texts, strict=False)
        ]
        more = len(rules) - len(texts)
        rest = (
            [f"{rules[-1].origin.file}: and {more:,} more rules of {self.variant.name} match nothing."] if more else []
        )
        return RuleError("\n".join([*texts, *rest]), faults=faults)

    def _apply(self, rule: BoundRule) -> bool:
        """Returns whether the rule spoke of any quantizer."""
        if rule.speaks_of_residual_inputs:
            self.residual_base.say(rule, "input")
        targets: list[Target] = [*self.layers, *self.operators]
        spoken = [(target, role) for target in targets for role in self._roles(rule, target)]
        for target, role in spoken:
            self.drafts.setdefault(_key(target, role), _Draft()).say(rule, role)
        return bool(spoken)

    def _roles(self, rule: BoundRule, target: Target) -> list[str]:
        """Returns the roles of a target that a rule speaks of."""
        if isinstance(target, Operator):
            known: tuple[str, ...] = ("input", "output") if rule.ops else (RESIDUAL,) if target.skip else ()
            known = ("input", "output", RESIDUAL) if rule.whole else known
        else:
            known = ROLES if target.has_weight else ("input", "output")
            known = known if not rule.ops or target.functional else ()
        speaks = (isinstance(target, Operator) or target in self.own) if rule.is_field else matches(rule, target)
        return [role for role in known if role in rule.patches] if speaks else []

    def _is_idle(self, rule: BoundRule) -> bool:
        # Without operators nothing tells whether there are residual additions; leaving them in float is then no fault.
        return set(rule.patches) == {RESIDUAL} and not rule.places_residuals and not self.operators

    def _of(self, target: Target, role: str) -> _Draft:
        return self.drafts.get(_key(target, role), _Draft())

    def _residual(self, operator: Operator) -> Iterator[PlannedQuantizer]:
        draft = self._of(operator, RESIDUAL)
        placement = draft.fields.get("placement") if draft.on else "none"
        if placement is None:
            raise RuleError(f"{draft.origin}: says no placement. Add one: {{placement: skip, ...}}, or both.")
        branches = {"skip": (operator.skip,), "both": (operator.skip, operator.main)}.get(placement, ())
        for branch, role in zip(branches, (RESIDUAL, f"{RESIDUAL}_main"), strict=False):
            whole = draft.over(self.residual_base)
            yield whole.planned(
                operator.module, role, sites=(operator.site,), operand=branch,
                number=operator.residual_number, calls=operator.calls,
            )  # fmt: skip

    def _operands(self, operator: Operator) -> Iterator[PlannedQuantizer]:
        for role, operands in (("input", operator.operands), ("output", ("output",))):
            draft = self._of(operator, role)
            for operand in operands if draft.on else ():
                yield draft.planned(
                    operator.module, f"{operator.site.op}_{operand}",
                    sites=(operator.site,), operand=operand, number=operator.number, calls=operator.calls,
                )  # fmt: skip


def _of_layer(draft: _Draft, layer: Layer, role: str) -> Iterator[PlannedQuantizer]:
    functional = layer.functional
    if functional is None:
        yield draft.planned(layer.name, role, layer=layer.name)
        return
    for name, operand in functional.of_role(role):
        yield draft.planned(
            functional.module, name, sites=functional.sites, operand=operand, calls=functional.calls, layer=layer.name,
            functional=functional,
        )  # fmt: skip


def _key(target: Target, role: str) -> tuple[str, str]:
    name = target.name if isinstance(target, Layer) else f"{target.module} {target.site}"
    return name, role
