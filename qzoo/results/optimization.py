"""What optimizing a quantized model did, step by step, as scripts read it."""

from __future__ import annotations

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel


class Change(Readable, StrictModel):
    """What one step did to one layer, pair of layers, or unit."""

    path: str
    """The path of the module; of a pair `conv1 -> conv2`."""
    before: float | None = None
    """The error before, as the step measures it: relative to what the float model has there; None where it has none."""
    after: float | None = None
    """The error after."""
    note: str = ""
    """What a person should know: that it fell back to another unit, kept nearest rounding, and why."""


class StepResult(Readable, StrictModel):
    """What one step did."""

    step: str
    """Its name in the recipe: `equalize`, `round` ..."""
    seconds: float
    changes: list[Change] = Field(default_factory=list)


class Optimization(Readable, StrictModel):
    """What all steps did, in order."""

    steps: list[StepResult]
    images: int
    """How many images they saw."""

    @property
    def notes(self) -> list[str]:
        """What a person should know, with where it happened."""
        return [f"{step.step}: {one.path}: {one.note}" for step in self.steps for one in step.changes if one.note]
