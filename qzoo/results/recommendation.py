"""What to ship for a runtime, why, and what is not known of it. The JSON that `qzoo recommend --json` writes."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel

Quantity = Literal[
    "float top-1", "top-1", "drop", "latency", "float latency", "published float top-1", "published top-1"
]


class KnownFigure(Readable, StrictModel):
    """A figure that somebody measured, and where it is from."""

    quantity: Quantity
    """A drop is that of top-1 below the float model's on the same images; a latency is the median for one image."""
    value: float
    unit: Literal["%", "points", "ms"]
    of: str
    """The full name of the variant that it was measured of, or the base's."""
    source: str
    """The file that it stands in, with images, machine and day; or who published it, and where."""


class Unknown(Readable, StrictModel):
    """What nobody has measured, as far as this machine knows."""

    what: str
    command: str | None
    """That finds out; null where no command of qzoo does."""


class LeftOut(Readable, StrictModel):
    """A variant that is not recommended, whatever else is known of it."""

    name: str
    reason: str


class Advice(Readable, StrictModel):
    """How a variant is exported for a runtime."""

    flags: list[str]
    """Options of `qzoo export`."""
    reasons: list[str]
    """One for each flag, and why none is needed where there is none."""


class Recommendation(Readable, StrictModel):
    """The variant to ship for a runtime on this machine.

    Every figure has a source, and none is computed from others but a drop, of two accuracies of one receipt.
    """

    name: str
    """What was asked about: a base or a variant."""
    target: str
    """The runtime."""
    machine: str
    """The processor, or what the runtime runs on."""
    cpu_flags: list[str]
    """Those that matter to integers."""
    max_drop: float | None
    """Points of top-1 that may be lost."""
    variant: str | None
    """The full name; null where nothing that is known meets `max_drop`."""
    point: str | None = None
    """The point of a search that it is, where it is one."""
    command: str
    """What to type next: it exports the variant, or looks for another."""
    advice: Advice
    figures: list[KnownFigure] = Field(default_factory=list)
    unknown: list[Unknown] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)

    @property
    def drop(self) -> float | None:
        """The measured drop of the variant, in points; None where none was measured."""
        return next((one.value for one in self.figures if one.quantity == "drop"), None)

    def to_json(self) -> str:
        """Returns the JSON."""
        return json.dumps({"schema": 1, **self.model_dump(mode="json")}, indent=1)
