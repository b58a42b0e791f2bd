"""Residual additions: which operands get a quantizer, as schemes, variants and rules say it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, model_validator

from qzoo.errors import did_you_mean
from qzoo.schema.quantizer import ActivationPatch

Placement = Literal["skip", "both", "none"]


class ResidualPatch(ActivationPatch):
    """Quantizers of residual additions; fields left out are those of `input`."""

    placement: Placement | None = None
    """`skip`: the identity or downsample branch only; `both`: both operands."""

    @model_validator(mode="after")
    def _none_says_nothing(self) -> ResidualPatch:
        if self.placement == "none" and len(self._said()) > 1:
            raise ValueError("`placement: none` leaves residual additions in float: drop the other fields")
        return self


def _short_residual(value: Any) -> Any:
    if isinstance(value, str) and value not in get_args(Placement):
        raise ValueError(f"unknown placement '{value}'. {did_you_mean(value, get_args(Placement))}")
    if not isinstance(value, str | dict | ResidualPatch) and value is not False:
        raise ValueError("expected skip, both, none (or false), or fields such as {placement: skip, bits: 8}")
    return {"placement": value or "none"} if isinstance(value, str | bool) else value


Residual = Annotated[
    ResidualPatch, BeforeValidator(_short_residual, json_schema_input_type=Placement | Literal[False] | ResidualPatch)
]
"""`skip`, `both`, `none` (or `false`), or fields."""
