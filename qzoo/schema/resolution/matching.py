"""Which layers and operators a rule matches, and what is said of one that matches nothing.

Knows them by name and type alone, so it needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from fnmatch import translate
from functools import lru_cache

from qzoo.errors import LONGEST_NAME, shown, some
from qzoo.schema.resolution.plan import Layer, Operator
from qzoo.schema.resolution.precedence import BoundRule
from qzoo.schema.rule import LAYER_KINDS, RESIDUAL, kinds_named

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
