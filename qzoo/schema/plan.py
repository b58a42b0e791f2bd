"""The quantizers planned for a model: which layers and operators a rule can speak of, and which it matches.

Knows layers and operators by name and type alone, so it needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from qzoo.errors import LONGEST_NAME, shown, some
from qzoo.schema.precedence import BoundRule, Origin
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.rule import LAYER_KINDS, RESIDUAL, kinds_named


class Site(NamedTuple):
    """One evaluation of an operator in a module's own forward.

    Attributes:
        op: the operator's name, `add`.
        call: which call of the module, in one pass through the model; from 0.
        position: among the operators of that name in that call; from 0. Those of child modules do not count.
    """

    op: str
    call: int
    position: int


@dataclass(frozen=True)
class WeightRead:
    """A weight that an operator reads, whole or in parts.

    Attributes:
        parameter: path of the parameter, from the module whose forward evaluates the operator; None for a weight that
            is computed from parameters, as that of a cosine classifier is.
        size: its shape.
        axis: the axis that its output channels lie along; None where they lie along none.
        groups: the number of groups along the first axis that have channels of their own.
        in_parts: whether any evaluation reads a view of the parameter, and not the parameter itself.
    """

    parameter: str | None
    size: tuple[int, ...]
    axis: int | None = 0
    groups: int = 1
    in_parts: bool = field(default=False, compare=False)

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """The shape of a range for each output channel, see `quant.grouped`."""
        if self.axis is None:
            return ()
        channels = tuple(size if dim == self.axis else 1 for dim, size in enumerate(self.size))
        return channels if self.groups == 1 else (self.groups, *channels)


@dataclass(frozen=True)
class Functional:
    """How a layer is computed that nobody calls: by an operator of a module's own forward, which reads its weight.

    Attributes:
        module: path of the module whose own forward evaluates it.
        prefix: what the names of its quantizers in that module begin with: `in_proj_`; may be empty.
        sites: its evaluations, in each of which the weight, or a part of it, is read.
        inputs: names of the operands that are activations.
        operand: the name of the operand that is the weight.
        weight: what is read.
        calls: how often the module is called in one pass through the model.
    """

    module: str
    prefix: str
    sites: tuple[Site, ...]
    inputs: tuple[str, ...]
    operand: str
    weight: WeightRead
    calls: int = 1

    @property
    def op(self) -> str:
        """The operator's name: `linear`."""
        return self.sites[0].op

    def of_role(self, role: str) -> Iterator[tuple[str, str]]:
        """Yields name and operand of each quantizer of a role: `("in_proj_input", "input")`."""
        if role == "weight":
            yield f"{self.prefix}weight", self.operand
        elif role == "output":
            yield f"{self.prefix}output", "output"
        else:
            names = ("input", *self.inputs[1:])
            yield from ((f"{self.prefix}{name}", operand) for name, operand in zip(names, self.inputs, strict=False))


@dataclass(frozen=True)
class Layer:
    """A layer that rules can speak of.

    Attributes:
        name: module path, `layer1.0.conv1`; of one that nobody calls, the path of its weight: `attn.in_proj`.
        types: names of its class and of the classes it derives from, plain and with module.
        has_weight: whether there is a weight to quantize.
        functional: how it is computed, if nobody calls it.
    """

    name: str
    types: tuple[str, ...]
    has_weight: bool
    functional: Functional | None = None


@dataclass(frozen=True)
class Operator:
    """A functional operator that rules can speak of.

    Attributes:
        module: path of the module whose own forward evaluates it.
        types: names of that module's class, as of a layer.
        site: which evaluation.
        operands: names of the operands that are activations: `input`, or `left` and `right` ...
        number: among the operators of that name in the module, over all calls; from 1.
        skip: for a residual addition, the operand that is the identity or downsample branch.
        main: the other operand.
        residual_number: among the residual additions of the module; from 1.
        calls: how often the module is called in one pass through the model.
    """

    module: str
    types: tuple[str, ...]
    site: Site
    operands: tuple[str, ...]
    number: int = 1
    skip: str | None = None
    main: str | None = None
    residual_number: int = 1
    calls: int = 1

    @property
    def name(self) -> str:
        """Path and operator: `layer1.0.add`."""
        return f"{self.module}.{self.site.op}".lstrip(".")


@dataclass(frozen=True)
class PlannedQuantizer:
    """A quantizer to be made, and why.

    Attributes:
        module: path of the layer, or of the module whose forward evaluates the operator.
        role: `input`, `weight` or `output` of a layer, `in_proj_weight` of one that nobody calls; `residual`,
            `residual_main`, `matmul_left` ... of an operator.
        spec: complete.
        origin: the rule that spoke last.
        field_origins: for each field that a rule set, the rule that set it.
        sites: the sites of an operator; none for a layer that is called.
        operand: the operand of the operator: `left`, `output` ...
        number: tells the quantizers of one role in one module apart; from 1.
        calls: how often the module is called in one pass.
        layer: the name of the layer, if it is of one.
        functional: how that layer is computed, if nobody calls it.
    """

    module: str
    role: str
    spec: QuantizerSpec
    origin: Origin
    field_origins: dict[str, Origin]
    sites: tuple[Site, ...] = ()
    operand: str | None = None
    number: int = 1
    calls: int = 1
    layer: str | None = None
    functional: Functional | None = None

    @property
    def of_weight(self) -> bool:
        """Whether what it quantizes is a weight."""
        return self.role == "weight" if self.functional is None else self.operand == self.functional.operand

    @property
    def name(self) -> str:
        """Its name in the module: `residual_quantizer`, and `residual_quantizer_2` for the next."""
        return f"{self.role}_quantizer" + (f"_{self.number}" if self.number > 1 else "")

    @property
    def path(self) -> str:
        """Its path in the model: `layer1.0.residual_quantizer`."""
        return f"{self.module}.{self.name}".lstrip(".")


class FloatWeight(NamedTuple):
    """A weight that stays in float although no rule says so.

    Attributes:
        path: path of the parameter.
        weights: its share of the model's weights, 0 to 1.
        macs: the share of the multiplications that are by it, 0 to 1; None where the model was not traced.
    """

    path: str
    weights: float
    macs: float | None


@dataclass(frozen=True)
class Plan:
    """Every quantizer of a model, and what stays in float.

    Attributes:
        quantizers: the quantizers of layers in the order of the model, then of operators in the order of evaluation.
        left_float: paths of the layers with weights that have no quantizer.
        float_operators: operators without a quantizer; empty where the model was not traced.
        float_rules: by path, the rule that left a layer in float; of other layers no rule speaks.
        float_weights: weights that stay in float although no rule says so, the largest first.
    """

    quantizers: list[PlannedQuantizer]
    left_float: list[str]
    float_operators: list[Operator] = field(default_factory=list)
    float_rules: dict[str, Origin] = field(default_factory=dict)
    float_weights: list[FloatWeight] = field(default_factory=list)


MOST_COMPARED = 5
"""Names of a rule that a message repeats, and for which it looks for similar ones."""
_WILD = re.compile(r"[*?\[]")
_CLASS = re.compile(r"\[!?+\]?+[^\]]*\]")
"""`[a-z]` in a glob."""


def matches(rule: BoundRule, target: Layer | Operator) -> bool:
    """Whether the target satisfies every field of the rule's match."""
    op = operator_of(target)
    return (
        _any_glob(rule.names, _named(target, rule.ops is not None))
        and (rule.types is None or any(name in target.types for name in rule.types))
        and (op is None or _any_glob(rule.ops, op))
    )


def _named(target: Layer | Operator, by_operator: bool) -> str:
    """Returns what the names of a rule are held against; those of one on operators name the module that evaluates."""
    if isinstance(target, Operator):
        return target.module
    return target.functional.module if by_operator and target.functional else target.name


def operator_of(target: Layer | Operator) -> str | None:
    """Returns the operator that computes a target; None for a layer that is called."""
    if isinstance(target, Operator):
        return target.site.op
    return None if target.functional is None else target.functional.op


def no_match(name: str, rule: BoundRule, layers: Sequence[Layer], operators: Sequence[Operator]) -> str:
    """Returns the message on a rule of the variant `name` that speaks of no quantizer."""
    where = f"{rule.origin.where} of {name}"
    if rule.ops is not None:
        return _no_operator(where, rule, [*operators, *(layer for layer in layers if layer.functional)])
    if set(rule.patches) == {RESIDUAL}:
        return _no_residual(where, rule, operators)
    if rule.is_field:
        return f"{where} speaks of layers with weights, and the scheme quantizes none."
    matched = [layer for layer in layers if matches(rule, layer)]
    if matched:
        return f"{where} matches only layers without a weight ({matched[0].name}); say `input` or `output` of them."
    named = next((layer for layer in layers if rule.names and _any_glob(rule.names, layer.name)), None)
    if named is not None:
        wanted = some(kinds_named(rule.types or ())).replace(", ", " or ")
        return f"{where} matches nothing: {named.name} is a {named.types[0]}, no {wanted}."
    names = (rule.names or ())[: 1 if rule.whole else None]  # `layer4`, without the `layer4.*` that it means too
    given = _quoted([*names, *kinds_named(rule.types or ())])
    near = _quoted(_nearest(rule, layers))
    return (
        f"{where} matches nothing: {given}. Nearest: {near}. "
        f"`qzoo explain` of a variant without this rule shows all {len(layers)} layers."
    )


def _quoted(names: Sequence[str]) -> str:
    return some([f"'{shown(name, LONGEST_NAME)}'" for name in names[:MOST_COMPARED]]) + (
        f" and {len(names) - MOST_COMPARED:,} more" if len(names) > MOST_COMPARED else ""
    )


def _no_operator(where: str, rule: BoundRule, operators: Sequence[Layer | Operator]) -> str:
    found = [(operator_of(one) or "", _named(one, by_operator=True)) for one in operators]
    here = [(op, module) for op, module in found if _any_glob(rule.ops, op)]
    if here:
        near = _quoted(_likest(rule.names or rule.types or (), {module: None for _, module in here}))
        return f"{where} matches nothing: this model has {here[0][0]}, but in {near} ..."
    known = ", ".join(sorted({op for op, _ in found}))
    return (
        f"{where} matches nothing: no operator {_quoted(rule.ops or ()).replace(', ', ' or ')}. The model's: {known}."
    )


def _no_residual(where: str, rule: BoundRule, operators: Sequence[Operator]) -> str:
    sites = [operator.module or "the model itself" for operator in operators if operator.skip]
    if not sites:
        return f"{where} speaks of residual additions, and this model has none. Leave out `residual`."
    given = _quoted([*(rule.names or ()), *kinds_named(rule.types or ())])
    near = _quoted(_likest(rule.names or (), sites))
    return f"{where} matches no residual addition: {given}. They are in the forward of {near} ..."


def _any_glob(globs: tuple[str, ...] | None, name: str) -> bool:
    return globs is None or _compiled(globs)(name)


@lru_cache(maxsize=4096)
def _compiled(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Returns what tells whether one of the globs matches a name: it is asked once for each layer of a model."""
    plain = frozenset(glob for glob in globs if not _WILD.search(glob))
    wild = [(glob, *_needed(glob)) for glob in dict.fromkeys(globs) if glob not in plain]

    def matches_name(name: str) -> bool:
        # Making an expression takes a thousand times as long as seeing that it can't match.
        likely = (glob for glob, part, fewest in wild if fewest <= len(name) and part in name)
        return name in plain or any(_expression(glob).match(name) for glob in likely)

    return matches_name


def _needed(glob: str) -> tuple[str, int]:
    """Returns the longest text that is part of every name a glob matches, and how many signs such a name has at least.

    Example:
        >>> _needed("layer[12].*.conv?")
        ('layer', 13)
    """
    before, closing, after = glob.rpartition("]")
    outline = _CLASS.sub("?", before + closing) + after
    return max(re.split(r"[*?]", outline), key=len), len(outline.replace("*", ""))


@lru_cache(maxsize=4096)
def _expression(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def _nearest(rule: BoundRule, layers: Sequence[Layer]) -> list[str]:
    """Returns the three names, of layers or else of types, that look most like what the rule names."""
    if rule.whole and rule.names:
        parts = [layer.name.split(".") for layer in layers]
        modules = [".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)]
        return _likest(rule.names[:1], modules)
    if rule.names:
        return _likest(rule.names, [layer.name for layer in layers])
    types = {t for layer in layers for t in layer.types if "." not in t and t[0] != "_"}
    kinds = [kind for kind, classes in LAYER_KINDS.items() if types & {*classes}]
    return _likest(kinds_named(rule.types or ()), [*types, *kinds])


def _likest(given: Sequence[str], known: Iterable[str]) -> list[str]:
    # Comparing takes the square of the lengths: the first names tell enough, and no layer's is as long.
    wanted = [one.replace("*", "")[:LONGEST_NAME] for one in given[:MOST_COMPARED]] or [""]
    likeness = {name: max(SequenceMatcher(None, one, name).ratio() for one in wanted) for name in sorted(set(known))}
    return sorted(likeness, key=lambda name: -likeness[name])[:3]
