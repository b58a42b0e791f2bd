"""What a variant is calibrated on: images of its dataset, or none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from pydantic import Field

from qzoo.schema.model import StrictModel

LARGEST_BATCH = 4096
"""Images at a time: a recipe from elsewhere must not fill the memory. `--batch-size` may say more."""

Source: TypeAlias = Literal["images", "synthetic", "distilled", "statistics"]
"""What ranges of activations are made from:

- `images`: images of the dataset.
- `synthetic`: images without data, of which spectra, edges and colours are like those of photographs.
- `distilled`: the same, changed until the network's batch norms see what they remember.
- `statistics`: what batch norms remember of the training images; images only say how it is spread.
"""
DATA_FREE: tuple[Source, ...] = tuple(one for one in get_args(Source) if one != "images")
"""Those that need no image of anybody."""


def named_source(data: Path | str | None) -> Source | None:
    """Returns the source that `--data` names in place of a folder; None for a folder.

    Example:
        >>> named_source("synthetic"), named_source("/data/synthetic")
        ('synthetic', None)
    """
    return cast("Source", str(data)) if str(data) in DATA_FREE else None


class CalibrationSpec(StrictModel):
    """What a variant is calibrated on."""

    source: Source = "images"
    """`synthetic`, `distilled` and `statistics` need no data: then split and transform are not looked at."""
    split: str = "train"
    images: int = Field(default=1024, ge=1)
    batch_size: int = Field(default=128, ge=1, le=LARGEST_BATCH)
    seed: int = Field(default=0, ge=0)
    transform: Literal["eval", "train"] = "eval"
    """`train`: augmented, seeded per image."""
    binning: Literal["aligned", "reference"] = "aligned"
    """The edges of histograms; `reference`: those of NVIDIA's toolkit, with its faults, for parity."""
    allow_leak: bool = False
    """Permits calibrating on the evaluation split; every report then shows it."""

    @property
    def is_data_free(self) -> bool:
        """Whether it needs no data."""
        return self.source in DATA_FREE

    @property
    def sampled(self) -> str:
        """Which images, in words, of a number of them: `images of train, seed 0`, `synthetic images, seed 0`."""
        if self.source == "images":
            return f"images of {self.split}, seed {self.seed}"
        return f"{MADE_FROM[self.source]}, seed {self.seed}"


MADE_FROM: dict[Source, str] = {
    "images": "images",
    "synthetic": "synthetic images",
    "distilled": "synthetic images, distilled out of the network",
    "statistics": "synthetic images, scaled to batch norm's statistics",
}
"""Each source in words that follow a number."""


class CalibrationPatch(StrictModel):
    """What a variant changes of the recipe's calibration."""

    source: Source | None = None
    split: str | None = None
    images: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1, le=LARGEST_BATCH)
    seed: int | None = Field(default=None, ge=0)
    transform: Literal["eval", "train"] | None = None
    binning: Literal["aligned", "reference"] | None = None
    allow_leak: bool | None = None
