"""Rules: which layers, functional operators or residual additions, and what to do with their quantizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from qzoo.errors import did_you_mean
from qzoo.schema.model import StrictModel, checked_fields
from qzoo.schema.quantizer import ActivationField, ActivationPatch, QuantizerField

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


ROLES = ("weight", "input", "output")
"""The quantizers that a layer can have."""
RESIDUAL = "residual"
"""The role of quantizers at residual additions in a module's own forward."""

WEIGHTED = "weighted"
LAYER_KINDS = {
    WEIGHTED: (
        "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear",
    ),
    "pooling": (
        "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
    ),
}  # fmt: skip
"""What `type` may say in place of a list of classes."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _with_kinds(value: Any) -> Any:
    """Returns class names where a kind of layer is named, so that nothing else has to know kinds."""
    names = _as_list(value)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return names
    return list(dict.fromkeys(one for name in names for one in LAYER_KINDS.get(name, (name,))))


def kinds_named(types: Sequence[str]) -> list[str]:
    """Returns types as short as they can be written, for messages.

    Example:
        >>> kinds_named(["AvgPool2d", *LAYER_KINDS["weighted"]])
        ['weighted', 'AvgPool2d']
    """
    kinds = [kind for kind, classes in LAYER_KINDS.items() if {*classes} <= {*types}]
    within = {name for kind in kinds for name in LAYER_KINDS[kind]}
    return [*kinds, *(name for name in types if name not in within)]


def _as_written(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


_Names = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    PlainSerializer(_as_written, return_type=str | list[str]),
    Field(min_length=1),
]
Globs = Annotated[_Names, BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
Types = Annotated[_Names, BeforeValidator(_with_kinds, json_schema_input_type=str | list[str])]


class Match(StrictModel):
    """What a rule speaks of: all that satisfies each field that is given."""

    name: Globs | None = None
    """Globs over module paths; `*` crosses dots: `layer4.*.conv3`."""
    type: Types | None = None
    """Class names, subclasses included: `Conv2d`, `timm.layers.conv2d_same.Conv2dSame`; or kinds of layers: `weighted`
    (convolutions and linear layers), `pooling` (average pooling)."""
    op: Globs | None = None
    """Functional operators, no layers: `matmul`, `softmax`, `sdpa` (`F.scaled_dot_product_attention`), `cat` ...;
    `name` and `type` are then those of the module whose forward calls the operator."""

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if self.name is None and self.type is None and self.op is None:
            raise ValueError("a match needs one of `name`, `type`, `op`")
        return self


@checked_fields
class Rule(StrictModel):
    """A match and what to do. Field by field the last matching rule wins.

    Example:
        >>> Rule(match={"name": "layer4.*"}, weight={"bits": 4}).match.name
        ['layer4.*']
    """

    match: Match
    weight: QuantizerField | None = None
    input: ActivationField | None = None
    """The quantizer of the input; of an operator, of each operand that is an activation."""
    output: ActivationField | None = None
    residual: Residual | None = None
    """The quantizers at residual additions in the forward of the modules that match."""
    why: str | None = None
    """For people."""

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if all(getattr(self, role) is None for role in (*ROLES, RESIDUAL)):
            raise ValueError("a rule needs one of `weight`, `input`, `output`, `residual`")
        if self.match.op is not None and (self.weight is not None or self.residual is not None):
            said = "weight" if self.weight is not None else RESIDUAL
            raise ValueError(f"an operator has inputs and an output: leave out `{said}`, or match modules without `op`")
        return self
