"""Rules: which layers, and what to do with their quantizers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from qzoo.schema.model import StrictModel
from qzoo.schema.quantizer import ActivationField, QuantizerField

ROLES = ("weight", "input", "output")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_written(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


Globs = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    PlainSerializer(_as_written, return_type=str | list[str]),
    Field(min_length=1),
]


class Match(StrictModel):
    """Which layers a rule speaks of: all that satisfy both fields."""

    name: Globs | None = None
    """Globs over module paths; `*` crosses dots: `layer4.*.conv3`."""
    type: Globs | None = None
    """Class names, subclasses included: `Conv2d`, `timm.layers.conv2d_same.Conv2dSame`."""

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if self.name is None and self.type is None:
            raise ValueError("a match needs `name`, `type` or both")
        return self


class Rule(StrictModel):
    """A match and what to do. Field by field the last matching rule wins."""

    match: Match
    weight: QuantizerField | None = None
    input: ActivationField | None = None
    output: ActivationField | None = None
    why: str | None = None
    """For people."""

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if all(getattr(self, role) is None for role in ROLES):
            raise ValueError("a rule needs one of `weight`, `input`, `output`")
        return self
