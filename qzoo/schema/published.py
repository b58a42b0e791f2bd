"""Published figures: what a run is held against."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema, model_validator

from qzoo.schema.model import StrictModel


class Claim(StrictModel):
    """One published figure, with its source. Top-1 is in percent."""

    top1: float | None = Field(default=None, ge=0, le=100)
    """The figure; a run passes within `tolerance` points of it."""
    top1_at_least: float | None = Field(default=None, ge=0, le=100)
    """A lower bound; `tolerance` is granted below it."""
    top1_below: str | None = None
    """Another variant of the recipe, which scores higher."""
    tolerance: float = Field(default=0.0, ge=0, le=100)
    """In points."""
    source: Annotated[str, Field(min_length=8), WithJsonSchema({"type": "string"})]
    """Who published it and where; for our own runs the command, date and hardware. In a file also the name of one of
    its `sources`."""
    own: bool = False
    """Our own earlier run is the reference; the verdict then says `own`."""

    @model_validator(mode="after")
    def _says_something(self) -> Claim:
        if self.top1 is None and self.top1_at_least is None and self.top1_below is None:
            raise ValueError("a claim needs one of top1, top1_at_least, top1_below")
        if self.tolerance and self.top1 is None and self.top1_at_least is None:
            raise ValueError("a tolerance goes with top1 or top1_at_least: leave it out beside top1_below")
        return self

    @property
    def figure(self) -> float | None:
        """The top-1 that was published, exactly or as a lower bound."""
        return self.top1 if self.top1 is not None else self.top1_at_least

    def __str__(self) -> str:
        """`76.1 ±0.15`, `≥ 76`, `< int8`."""
        parts = []
        if self.top1 is not None:
            parts.append(f"{self.top1:g}" + (f" ±{self.tolerance:g}" if self.tolerance else ""))
        if self.top1_at_least is not None:
            parts.append(f"≥ {self.top1_at_least:g}")
        if self.top1_below is not None:
            parts.append(f"< {self.top1_below}")
        return ", ".join(parts)
