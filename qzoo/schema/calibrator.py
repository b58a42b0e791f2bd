"""`calibrator: max | mse | entropy | {percentile: 99.99}`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_serializer, model_validator

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
            if value == "percentile":
                raise ValueError("percentile needs its value: {percentile: 99.99}")
            if value not in METHODS:
                raise ValueError(f"unknown calibrator '{value}'. {did_you_mean(value, METHODS)}")
            return {"method": value}
        if isinstance(value, dict) and "method" not in value and "percentile" in value:
            number = value["percentile"]
            exact = float(number) if isinstance(number, int) and not isinstance(number, bool) else number
            return {**value, "method": "percentile", "percentile": exact}
        return value

    @model_validator(mode="after")
    def _percentile_fits(self) -> Calibrator:
        if (self.method == "percentile") != (self.percentile is not None):
            raise ValueError("the method 'percentile', and only it, has a percentile: {percentile: 99.99}")
        return self

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
