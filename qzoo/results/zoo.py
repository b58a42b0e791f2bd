"""The zoo as a table: a row for each base and each variant, with what is measured, published and computed of it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import computed_field

from qzoo.results.benchmark import BenchmarkReport
from qzoo.results.facts import Figure
from qzoo.results.readable import Readable
from qzoo.schema.calibration import Source
from qzoo.schema.model import StrictModel

Place = Literal["shipped", "at hand", "on the hub"]
"""Where a file lies: with qzoo or beside one's recipe, elsewhere on this machine, or on the hub."""
Standing = Literal["measured", "partial", "published", "own"]
"""Of an accuracy: measured on all images of its split, with a receipt; on some of them; published by others; an earlier
run of our own that the recipe states."""


class Measured(Readable, StrictModel):
    """Accuracy as a receipt states it."""

    float_top1: float
    """Of the base, on the same images, in percent."""
    top1: float
    """In percent."""
    images: int
    complete: bool
    """Whether these are all images of the split."""
    date: str
    cpu: str
    place: Place
    file: str
    """The name of the receipt."""


class Latency(Readable, StrictModel):
    """Milliseconds of one batch in a runtime, medians of one run of `qzoo benchmark`."""

    runtime: str
    cpu: str
    threads: int
    batch: int
    float_ms: float
    ms: float
    """Of the variant."""
    date: str
    """The day of the measurement; empty where the report does not say it."""

    @classmethod
    def of_report(cls, report: BenchmarkReport) -> list[Latency]:
        """Returns those of a report, one for each size of batches."""
        return [
            cls(
                runtime=report.runtime, cpu=str(report.environment.get("cpu", "")), threads=report.threads,
                batch=one.batch, float_ms=one.float_ms[1], ms=one.quantized_ms[1], date=report.date,
            )
            for one in report.timings
        ]  # fmt: skip


class ZooRow(Readable, StrictModel):
    """A base, or a variant of it. What is not known is null, and nothing is estimated."""

    also_shown: ClassVar[tuple[str, ...]] = ("top1", "standing", "drop", "latency_ms")

    name: str
    """Its full name: `resnet50`, `resnet50_int8`."""
    base: str
    variant: str | None
    """Null for a base."""
    version: int
    dataset: str
    architecture: str
    """Source and name of the base: `torchvision/resnet50`."""
    method: str | None = None
    """How the ranges of inputs are found: `percentile 99.99`."""
    measured: Measured | None = None
    published: list[Figure]
    published_float: list[Figure]
    """Of the base."""
    parameters: int | None = None
    """Of the base."""
    macs: int | None = None
    """Multiply-accumulates by weights, for one image."""
    bits: float | None = None
    """Average bits of a weight of a layer."""
    bytes: int | None = None
    """Weights at their bits, their scales, and the rest in float32."""
    float_bytes: int | None = None
    """Of the base."""
    integer_share: float | None = None
    """Share of the multiply-accumulates whose two operands are integers."""
    targets: list[str]
    """Runtimes that take the variant's formats as they are; none where they are not known."""
    ranges: Source | None = None
    """What the ranges at hand are made from."""
    ranges_at: Place | None = None
    """Where what makes the variant lies; null where nothing does yet."""
    latency: list[Latency]

    @computed_field(return_type=float | None)  # type: ignore[prop-decorator]
    @property
    def top1(self) -> float | None:
        """In percent: as measured on the whole split; else as published; else as measured on a part of it."""
        return self._accuracy[0]

    @computed_field(return_type=Standing | None)  # type: ignore[prop-decorator]
    @property
    def standing(self) -> Standing | None:
        """Where `top1` comes from."""
        return self._accuracy[1]

    @computed_field(return_type=float | None)  # type: ignore[prop-decorator]
    @property
    def drop(self) -> float | None:
        """Points of top-1 below the base, of one measurement or of one source."""
        if self.variant is None:
            return None
        if self.measured is not None and self.standing in ("measured", "partial"):
            return self.measured.float_top1 - self.measured.top1 + 0.0
        of_float = {one.source: one.top1 for one in self.published_float}
        before = next((of_float.get(one.source) for one in self.published if one.top1 is not None), None)
        return None if before is None or self.top1 is None else round(before - self.top1, 6) + 0.0

    @computed_field(return_type=float | None)  # type: ignore[prop-decorator]
    @property
    def latency_ms(self) -> float | None:
        """Milliseconds of one image, in the runtime that was fastest."""
        return min((one.ms for one in self.latency if one.batch == 1), default=None)

    @property
    def comparable_top1(self) -> float | None:
        """`top1`, if it compares with that of other models: not what was measured on a part of the images."""
        return None if self.standing == "partial" else self.top1

    @property
    def megabytes(self) -> float | None:
        """`bytes` in millions."""
        return None if self.bytes is None else self.bytes / 1e6

    @property
    def relative_size(self) -> float | None:
        """`bytes`, as a share of the base's."""
        return None if self.bytes is None or not self.float_bytes else self.bytes / self.float_bytes

    @property
    def _accuracy(self) -> tuple[float | None, Standing | None]:
        found = self.measured
        if found is not None and found.complete:
            return found.top1, "measured"
        for one in self.published if self.variant is not None else self.published_float:
            if one.top1 is not None:
                return one.top1, "own" if one.own else "published"
        return (None, None) if found is None else (found.top1, "partial")
