"""`calibrator: max | mse | entropy | {percentile: 99.99}`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
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
