"""What `qzoo benchmark` measured: latency of float beside quantized, and what ran on integers."""

from __future__ import annotations

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel


class Timing(Readable, StrictModel):
    """Milliseconds of one batch: the median, and what a tenth of the runs stay below and above."""

    batch: int = Field(ge=1)
    float_ms: tuple[float, float, float]
    """Milliseconds of the float model: the 10th percentile, median and 90th percentile."""
    quantized_ms: tuple[float, float, float]
    """Milliseconds of the quantized model: the 10th percentile, median and 90th percentile."""

    @property
    def speed(self) -> float:
        """How many times as fast as float."""
        return self.float_ms[1] / self.quantized_ms[1]


class FloatOperator(Readable, StrictModel):
    """A layer or an addition that did not run on integers."""

    node: str
    kernel: str
    reason: str


class BenchmarkReport(Readable, StrictModel):
    """What `qzoo benchmark --json` writes."""

    name: str
    runtime: str
    threads: int
    timings: list[Timing]
    integer_macs: float = Field(ge=0, le=1)
    """Share of multiply-accumulates that ran in integer kernels."""
    integer_additions: tuple[int, int]
    """Residual additions that did, of all."""
    float_operators: list[FloatOperator]
    cpu_flags: list[str]
    """Those that matter to integers."""
    environment: dict[str, str | int]
    date: str = ""
    """The day of the measurement, `2026-12-01`."""
    recipe_sha256: str = ""
    """The digest of the resolved variant, where the report is kept for it."""
