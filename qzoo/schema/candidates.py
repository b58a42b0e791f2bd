"""Candidates of a search by short names: `w4a8`, `int8_mse`, `float`; what a rule says for each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from qzoo.errors import ArgumentError, did_you_mean, shown
from qzoo.schema.quantizer import ActivationField, QuantizerField

FLOAT = "float"
"""The candidate that leaves layers in float."""
USUAL = ("w8a8", "w6a8", "w5a8", "w4a8", "w3a8", "w2a8")
"""Candidates where no runtime is named: storage counts, and activations stay at 8 bits."""
INTEGER_KERNELS = ("int8", "int8_mse", "int8_entropy", "int8_p999", "int8_max", FLOAT)
"""Candidates for a runtime: what integer kernels run equally fast differs in how ranges are found."""
EXAMPLES = ("w4a8", "w8a8", "w4a4", "int8", "int8_mse", "int8_asym", "fp8", FLOAT)

Changes = dict[str, Any]
"""By role, `weight` and `input`, the fields that a rule sets; False for float."""


def candidates(names: Sequence[str] | Mapping[str, Any]) -> dict[str, Changes]:
    """Returns what each candidate changes, by its name.

    A name is made of parts with `_` between them: bits (`w4a8`, `w4`, `a4`, `int8`), `fp8`, how ranges of activations
    are found (`max`, `mse`, `entropy`, `p9999` for the percentile 99.99), `asym` for activations with zero points.
    Ranges of weights below 8 bits are found by `mse`, unless the name says otherwise of them.

    Args:
        names: names; or a mapping from names of one's own to what a rule would say,
            `{"mine": {"weight": {"bits": 5}}}`.

    Raises:
        ArgumentError: a name is none of these, or twice there; or a mapping says what no rule may say.

    Example:
        >>> candidates(["w4a8", "float"])["w4a8"]
        {'weight': {'bits': 4, 'calibrator': 'mse'}, 'input': {'bits': 8}}
    """
    if isinstance(names, Mapping):
        found = {name: _checked(name, changes) for name, changes in names.items()}
    else:
        found = {name: _checked(name, _read(name)) for name in names}
    if len(found) < 2:
        raise ArgumentError(
            f"A search chooses between at least two candidates; given: {', '.join(map(str, names)) or 'none'}. "
            f"Such as {', '.join(USUAL)}."
        )
    return found


_BITS = re.compile(r"(?:w(?P<weight>\d+))?(?:a(?P<input>\d+))?|int(?P<both>\d+)")
_PERCENTILE = re.compile(r"p(\d\d)(\d*)")


def _read(name: str) -> Changes:
    if name == FLOAT:
        return {"weight": False, "input": False}
    changes: Changes = {"weight": {}, "input": {}}
    for part in name.split("_"):
        reader = next((read for read in (_bits, _format, _calibrator, _zero_point) if read(part, changes)), None)
        if not part or reader is None:
            raise ArgumentError(
                f"'{shown(name)}' is no candidate: '{shown(part)}' means nothing. {did_you_mean(name, EXAMPLES)} "
                "Parts: w4a8 (bits), fp8, max, mse, entropy, p9999 (percentile 99.99), asym."
            )
    return {role: fields for role, fields in changes.items() if fields}


def _bits(part: str, changes: Changes) -> bool:
    found = _BITS.fullmatch(part)
    if not part or found is None:
        return False
    for role in changes:
        bits = found["both"] or found[role]
        if bits is not None:
            changes[role]["bits"] = int(bits)
            if role == "weight" and int(bits) < 8:
                changes[role]["calibrator"] = "mse"
    return True


def _format(part: str, changes: Changes) -> bool:
    if part == "fp8":
        changes["weight"] |= {"format": "e4m3"}
        changes["input"] |= {"format": "e4m3", "unsigned": False}
    return part == "fp8"


def _calibrator(part: str, changes: Changes) -> bool:
    percentile = _PERCENTILE.fullmatch(part)
    if percentile is None and part not in ("max", "mse", "entropy"):
        return False
    said = part if percentile is None else {"percentile": float(f"{percentile[1]}.{percentile[2] or 0}")}
    changes["input"]["calibrator"] = said
    return True


def _zero_point(part: str, changes: Changes) -> bool:
    if part == "asym":
        changes["input"] |= {"symmetric": False, "unsigned": False}
    return part == "asym"


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "weight": TypeAdapter(QuantizerField).validate_python,
    "input": TypeAdapter(ActivationField).validate_python,
}


def _checked(name: str, changes: Any) -> Changes:
    """Returns changes that a rule may say.

    Raises:
        ArgumentError: they are no mapping, speak of another role, or hold what no quantizer has.
    """
    if not isinstance(changes, Mapping) or not set(changes) <= set(_FIELDS):
        said = shown(repr(changes), 60)
        raise ArgumentError(f"The candidate '{shown(name)}' is {said}; expected {{weight: ..., input: ...}}.")
    for role, said in changes.items():
        try:
            _FIELDS[role](said)
        except ValidationError as error:
            reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ").rstrip(".")
            raise ArgumentError(f"The candidate '{shown(name)}' says of {role}: {reason}.") from error
    return dict(changes)
