"""What a call in Python says beside a name, `residual`, `calibrator`, `skip` and `rules`: it goes before all else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from qzoo.errors import ArgumentError, RuleError, shown
from qzoo.schema.limits import oversized
from qzoo.schema.model import all_described
from qzoo.schema.quantizer import ActivationPatch, Calibrator
from qzoo.schema.resolution.precedence import BoundRule, Origin, Patches, Precedence, bound, ordered
from qzoo.schema.resolution.resolve import ResolvedVariant, check_residual
from qzoo.schema.rule import RESIDUAL, ROLES, Residual, ResidualPatch, Rule

T = TypeVar("T")
Calibration = str | Mapping[str, float] | Calibrator
"""`max`, `mse`, `entropy` or `{"percentile": 99.99}`."""


def with_call(
    variant: ResolvedVariant,
    *,
    residual: Any = None,
    calibrator: Calibration | None = None,
    skip: str | Sequence[str] = (),
    rules: Sequence[Rule | Mapping[str, Any]] = (),
) -> ResolvedVariant:
    """Returns the variant with what a call says beside it; the last that speaks of a quantizer wins.

    Args:
        variant: resolved.
        residual: of residual additions, if the model has any, what a recipe may say: `skip`, `both`, `none`, or fields.
        calibrator: of the inputs of layers with weights, and of residual additions: how their ranges are found.
        skip: globs over names of modules, which stay in float with all that is inside.
        rules: as in a recipe; each has to match something.

    Raises:
        RuleError: residual or calibrator is none of what is accepted, or a rule is faulty; says what is.
        ArgumentError: `skip` holds no text, or `rules` is no list of rules.
    """
    said = [
        *([] if residual is None else [_residual(residual)]),
        *([] if calibrator is None else [_calibrator(calibrator)]),
        *_skipped([skip] if isinstance(skip, str) else skip),
        *_written(rules),
    ]
    if not said:
        return variant
    merged = ordered([*variant.rules, *said])
    check_residual(merged)
    return replace(variant, rules=merged)


def calibrator_of(said: Calibration) -> Calibrator:
    """Returns the calibrator that a call names.

    Raises:
        RuleError: there is none such; with the nearest name.

    Example:
        >>> str(calibrator_of({"percentile": 99.9}))
        'percentile 99.9'
    """
    return said if isinstance(said, Calibrator) else _read(Calibrator, "calibrator", said)


def _residual(said: Any) -> BoundRule:
    for _, fault in oversized(said):
        raise RuleError(f"residual {fault}. Give skip, both, none, or fields.")
    return _rule({RESIDUAL: _read(Residual, RESIDUAL, said)}, RESIDUAL)


def _calibrator(said: Calibration) -> BoundRule:
    return _rule({"input": ActivationPatch(calibrator=calibrator_of(said))}, "calibrator")


def _skipped(globs: Sequence[str]) -> Iterator[BoundRule]:
    if not isinstance(globs, Iterable) or isinstance(globs, Mapping):
        raise ArgumentError(f"skip={shown(repr(globs), 60)} is no list of names. Give ['head', 'layer4.*'].")
    in_float: Patches = {**dict.fromkeys(ROLES, False), RESIDUAL: ResidualPatch(placement="none")}
    for n, glob in enumerate(globs):
        if not isinstance(glob, str) or not glob:
            raise ArgumentError(f"skip[{n}] is {shown(repr(glob), 60)}; expected the name of a module, or a glob.")
        # What is inside a module has the module's name before its own.
        yield replace(_rule(in_float, f"skip[{n}]"), names=(glob, f"{glob}.*"), whole=True)


def _written(rules: Sequence[Rule | Mapping[str, Any]]) -> Iterator[BoundRule]:
    if not isinstance(rules, Iterable) or isinstance(rules, str | Mapping | Rule):
        raise ArgumentError(f"rules={shown(repr(rules), 60)} is no list of rules. Give [{{match: ..., input: ...}}].")
    for n, rule in enumerate(rules):
        for _, fault in oversized(rule):
            raise RuleError(f"rules[{n}] {fault}.")
        try:
            valid = rule if isinstance(rule, Rule) else Rule.model_validate(rule)
        except ValidationError as error:
            raise RuleError(f"rules[{n}]: {all_described(Rule, rule, error)}") from error
        yield bound(valid, _origin(f"rules[{n}]"), Precedence.CALL)


def _rule(patches: Patches, field: str) -> BoundRule:
    return BoundRule(patches, _origin(field), Precedence.CALL)


def _origin(field: str) -> Origin:
    return Origin("<call>", 0, field)


def _read(kind: Any, name: str, said: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(said)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ").rstrip(".")
        raise RuleError(f"{name}={shown(repr(said))}: {shown(reason)}.") from error
