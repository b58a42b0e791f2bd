"""`--set FIELD=VALUE`: any field of a schedule, as a recipe would say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qzoo.errors import RecipeError, UnknownNameError, did_you_mean
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.yaml_source import parse_yaml


def parse_changes(given: Sequence[str]) -> dict[str, Any]:
    """Returns the fields that are set, by name; the values are read as YAML, and checked when they are used.

    Raises:
        UnknownNameError: a field has no such name; with the nearest.
        RecipeError: there is no `=`, or the value is no YAML.

    Example:
        >>> parse_changes(["schedule=cosine", "ema=0.99", "distill={temperature: 2}"])
        {'schedule': 'cosine', 'ema': 0.99, 'distill': {'temperature': 2}}
    """
    changes = {}
    for text in given:
        field, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise RecipeError(f"--set {text}: expected FIELD=VALUE, such as --set schedule=cosine.")
        if field not in FinetuneSpec.model_fields:
            raise UnknownNameError(f"--set {text}: {_no_field(field, value)}")
        changes[field] = _value(text, value)
    return changes


def _no_field(field: str, value: str) -> str:
    block, _, inner = field.partition(".")
    if inner and block in FinetuneSpec.model_fields:
        return f"the fields of `{block}` are given together: --set '{block}={{{inner}: {value}}}'."
    return f"a schedule has no field '{field}'. {did_you_mean(field, FinetuneSpec.model_fields)}"


def _value(text: str, value: str) -> Any:
    try:
        return parse_yaml(value, "the value")[0]
    except RecipeError as error:
        raise RecipeError(f"--set {text}: the value is no YAML. Write it as in a recipe: --set ema=0.99.") from error
