"""What a recipe says of a quantizer, its calibrator included, and what comes of it when all has been said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from qzoo.errors import did_you_mean
from qzoo.schema.model import StrictModel

Method = Literal["max", "percentile", "mse", "entropy"]
METHODS = ("max", "mse", "entropy", "percentile")


class Calibrator(StrictModel):
    """How a range is found: what is collected follows from how it is solved.

    Example:
        >>> Calibrator.model_validate({"percentile": 99.9}).collector
        'histogram'
        >>> str(Calibrator(method="max"))
        'max'
    """

    method: Method
    percentile: float | None = Field(default=None, gt=0, le=100)
    """In percent; for the method `percentile` alone."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in METHODS:
                raise ValueError(f"unknown calibrator '{value}'. {did_you_mean(value, METHODS)}")
            return {"method": value}
        if not isinstance(value, dict) or not value:
            raise ValueError(f"expected {', '.join(METHODS[:-1])} or {{percentile: 99.99}}")
        return value if "method" in value else {"method": "percentile", **value}

    @model_validator(mode="after")
    def _percentile_fits(self) -> Calibrator:
        if self.method == "percentile" and self.percentile is None:
            raise ValueError("percentile needs its value: {percentile: 99.99}")
        if self.method != "percentile" and self.percentile is not None:
            raise ValueError(f"{self.method} has no percentile: say `{self.method}` or {{percentile: 99.99}}")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """As it is written, which Pydantic can't know."""
        percentile = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
        fields = {"method": {"enum": list(METHODS)}, "percentile": percentile}
        mapping = {"type": "object", "properties": fields, "minProperties": 1, "additionalProperties": False}
        return {"description": "How a range is found.", "anyOf": [{"enum": list(METHODS[:-1])}, mapping]}

    @model_serializer
    def _to_short_form(self) -> str | dict[str, float]:
        return self.method if self.percentile is None else {"percentile": self.percentile}

    @property
    def collector(self) -> Literal["max", "histogram"]:
        """What has to be collected."""
        return "max" if self.method == "max" else "histogram"

    def __str__(self) -> str:
        """`percentile 99.99`, `max`: every digit, since digests are made of it."""
        return self.method if self.percentile is None else f"percentile {self.percentile!r}".removesuffix(".0")


Format = Literal["int", "e4m3", "e5m2"]
Granularity = Literal["tensor", "channel"]


def _no_number(value: Any) -> Any:
    # A Literal takes 1 for True.
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"expected true, false or auto (given: {value})")
    return value


TrueFalseAuto = Annotated[Literal[True, False, "auto"], BeforeValidator(_no_number)]

_OF_SYMMETRIC = ("unsigned", "narrow")
"""What is said of a grid that has no zero point."""


def contradiction(fields: Mapping[str, Any]) -> tuple[tuple[str, str], str] | None:
    """Returns two fields that can't both hold, and why; None if all go together.

    Example:
        >>> contradiction({"format": "e4m3", "narrow": True})
        (('format', 'narrow'), 'e4m3 is symmetric by itself: leave out `narrow`')
    """
    kind = fields.get("format", "int")
    if problem := _of_zero_point(kind, fields):
        return problem
    if kind != "int":
        if fields.get("bits", 8) != 8:
            return ("format", "bits"), f"{kind} has 8 bits: leave out `bits: {fields['bits']}`, or say `format: int`"
        if fields.get("unsigned", False) is not False:
            return ("format", "unsigned"), f"{kind} always has a sign: leave out `unsigned`, or say `unsigned: false`"
        if fields.get("narrow"):
            return ("format", "narrow"), f"{kind} is symmetric by itself: leave out `narrow`"
    elif fields.get("narrow") and fields.get("unsigned") is True:
        return ("narrow", "unsigned"), "`narrow` leaves out the lowest signed value, which `unsigned: true` has not"
    return None


def _of_zero_point(kind: str, fields: Mapping[str, Any]) -> tuple[tuple[str, str], str] | None:
    symmetric = fields.get("symmetric", True)
    if symmetric is True:
        return None
    if kind != "int":
        return ("format", "symmetric"), f"{kind} has no zero point: leave out `symmetric`, or say `symmetric: true`"
    clash = next((name for name in _OF_SYMMETRIC if fields.get(name, False) is not False), None)
    if clash is None:
        return None
    said = f"`symmetric: {str(symmetric).lower()}`"
    return ("symmetric", clash), f"with {said} a zero point takes the place of `{clash}`: leave out one of them"


class QuantizerSpec(StrictModel):
    """Everything there is to say about one quantizer.

    Example:
        >>> str(QuantizerSpec(bits=4, calibrator=Calibrator(method="mse")))
        '4bit per-tensor mse'
    """

    format: Format = "int"
    bits: int = Field(default=8, ge=2, le=16)
    per: Granularity = "tensor"
    unsigned: TrueFalseAuto = False
    narrow: bool = False
    symmetric: TrueFalseAuto = True
    calibrator: Calibrator = Calibrator(method="max")

    @property
    def has_zero_point(self) -> bool:
        """Whether a zero point stands beside the range: always where it is asymmetric, and where it may be."""
        return self.symmetric is not True

    @property
    def needs_signs(self) -> bool:
        """Whether its range is solved from a histogram of both signs."""
        return self.has_zero_point and self.calibrator.method in ("percentile", "mse")

    @model_validator(mode="after")
    def _goes_together(self) -> QuantizerSpec:
        if problem := contradiction(self.__dict__):
            raise ValueError(problem[1])
        return self

    def __str__(self) -> str:
        """One line: format, granularity, calibrator."""
        sign = {True: "unsigned ", "auto": "auto-signed ", False: ""}[self.unsigned]
        zero = {True: "", "auto": "auto-symmetric ", False: "asymmetric "}[self.symmetric]
        kind = f"{zero}{sign}{'narrow ' if self.narrow else ''}{self.bits}bit" if self.format == "int" else self.format
        return f"{kind} per-{self.per} {self.calibrator}"


class QuantizerPatch(StrictModel):
    """What a scheme, variant or rule says of a quantizer; what it leaves out stays as it was."""

    format: Format | None = None
    """`int`, or an FP8 format, `e4m3` or `e5m2`."""
    bits: int | None = Field(default=None, ge=2, le=16)
    """2 to 16; makes the format `int`."""
    per: Granularity | None = None
    """One range for the whole tensor, or one for each output channel (weights only)."""
    unsigned: TrueFalseAuto | None = None
    """From 0; `auto`: unsigned where calibration saw no negative value."""
    narrow: bool | None = None
    """Leave out the lowest signed value."""
    symmetric: TrueFalseAuto | None = None
    """`false`: with a zero point, so that the range need not reach as far below 0 as above; takes the place of
    `unsigned` and `narrow` said before. `auto`: with one where calibration finds that it pays."""
    calibrator: Calibrator | None = None
    """`max`, `mse`, `entropy` or `{percentile: 99.99}`."""

    @model_validator(mode="before")
    @classmethod
    def _explain_wrong_type(cls, value: Any) -> Any:
        if isinstance(value, str | int | float | list) or value is True:
            raise ValueError("expected fields such as {bits: 8, calibrator: max}, or false for float")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> QuantizerPatch:
        if problem := contradiction(self._said()):
            raise ValueError(problem[1])
        return self

    def fields(self) -> dict[str, Any]:
        """Returns what the patch says, with what follows from it.

        `bits` means `int`, FP8 means 8 bits; a zero point replaces what a scheme says of `unsigned` and `narrow`.
        """
        said = self._said()
        if "bits" in said and "format" not in said:
            said["format"] = "int"
        if said.get("format") in ("e4m3", "e5m2"):
            said["bits"] = 8
        if said.get("symmetric", True) is not True:
            said |= dict.fromkeys(_OF_SYMMETRIC, False)
        return said

    def _said(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a patch's fields with the calibrator in words.

    Example:
        >>> plain_fields(QuantizerPatch.model_validate({"bits": 4, "calibrator": {"percentile": 99.9}}).fields())
        {'bits': 4, 'calibrator': 'percentile 99.9', 'format': 'int'}
    """
    return {key: str(value) if key == "calibrator" else value for key, value in fields.items()}


class ActivationPatch(QuantizerPatch):
    """What is said of the quantizer of an input, an output or a skip branch: one range for the whole tensor."""

    per: Literal["tensor"] | None = None
    """One range for the whole tensor; ranges per channel exist for weights only."""

    @field_validator("per", mode="before")
    @classmethod
    def _per_tensor(cls, value: Any) -> Any:
        if value == "channel":
            raise ValueError("ranges per channel exist for weights only: leave out `per`, or say `per: tensor`")
        return value


def _float_or_patch(value: Any) -> str:
    return "float" if value is False else "quantizer"


QuantizerField = Annotated[
    Annotated[Literal[False], Tag("float")] | Annotated[QuantizerPatch, Tag("quantizer")],
    Discriminator(_float_or_patch),
]
"""What is said of a weight's quantizer: a patch, or `false` for float."""

ActivationField = Annotated[
    Annotated[Literal[False], Tag("float")] | Annotated[ActivationPatch, Tag("quantizer")],
    Discriminator(_float_or_patch),
]
"""What is said of the quantizer of an input or output: a patch, or `false` for float."""
