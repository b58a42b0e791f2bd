"""The report of a comparison of calibrators: which finds the best ranges for a model."""

from __future__ import annotations

import json

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel
from qzoo.schema.quantizer import Calibrator


class CompareRow(Readable, StrictModel):
    """One calibrator, and what the model is like with the ranges that it finds."""

    calibrator: Calibrator
    """As `qzoo.quantize(calibrator=...)` takes it; in the JSON as a recipe says it."""
    top1: float | None
    """In percent; null without labels."""
    agreement: float
    """Share of images with the first prediction of the float model, in percent."""
    sqnr_db: float | None
    """Signal to quantization noise of the logits, in dB; null where they are equal bit for bit."""


class Comparison(Readable, StrictModel):
    """Calibrators of one model, all of one collection."""

    name: str
    """Of the variant or scheme whose rules the model has."""
    images: int = Field(ge=1)
    """That the figures are measured on."""
    float_top1: float | None
    """Of the float model, in percent; null without labels."""
    rows: list[CompareRow]
    """Best first: by top-1, then by agreement, then by noise."""
    seconds: float

    @property
    def best(self) -> Calibrator:
        """The calibrator of the first row."""
        return self.rows[0].calibrator

    def to_json(self) -> str:
        """Returns the JSON."""
        return json.dumps({"schema": 1, **self.model_dump(mode="json")}, indent=1)
