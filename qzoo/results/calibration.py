"""What a calibration of a variant made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qzoo.results.readable import Readable
from qzoo.schema.calibration import Source


@dataclass(frozen=True, repr=False)
class Calibrated(Readable):
    """What a calibration made.

    Attributes:
        name: full name of the variant.
        path: the path of the ranges file.
        histograms: the path of the histograms file; None where none was kept.
        images: how many it saw.
        quantizers: how many got a range.
        seconds: wall time.
        short: the recipe wanted more images than there are.
        source: of the dataset, or made without data.
    """

    name: str
    path: Path
    histograms: Path | None
    images: int
    quantizers: int
    seconds: float
    short: bool
    source: Source = "images"
