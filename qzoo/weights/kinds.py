"""The kinds of artifacts: what files they are, how large at most, and how one gets another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qzoo.schema.model import LARGEST_TEXT

if TYPE_CHECKING:
    from qzoo.schema.reading.catalog import RecipeEntry

FOLDER = "artifacts"
"""Beside the recipes of a folder."""
LARGEST_FILE = 20_000_000_000
"""Bytes of a full checkpoint."""


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Attributes:
        name: `ranges`, `histograms`, `receipt`, `model`.
        largest: bytes; a larger file is refused unread.
        remedy: ends a message about a file that can't be used; it names the command that makes one.
        purpose: what it is for, as a model card says it; empty for what is never released.
        extension: the extension of the file.
    """

    name: str
    largest: int
    remedy: str
    purpose: str = ""
    extension: str = "safetensors"

    @property
    def format(self) -> str:
        """As it stands in the file."""
        return f"qzoo-{self.name}/1"

    @property
    def suffix(self) -> str:
        """How file names end."""
        return f".{self.name}.{self.extension}"

    @property
    def file(self) -> str:
        """The file's name in a hub model."""
        return f"{self.name}.{self.extension}"


MODEL = Kind(
    "model",
    largest=LARGEST_FILE,
    remedy="`qzoo push` makes one; or fetch it again.",
    purpose="the full checkpoint",
)
"""A full checkpoint, calibrated or trained."""
RANGES = Kind(
    "ranges",
    largest=64_000_000,
    remedy="`qzoo calibrate NAME` writes one; or copy it again.",
    purpose="the ranges of all quantizers, without weights: to be put on the float model",
)
"""All `amax` of a calibrated model."""
ROUNDING = Kind(
    "rounding",
    largest=2_000_000_000,
    remedy="`qzoo optimize NAME` writes one; or copy it again.",
    purpose="ranges, and how each weight is rounded, in a bit or a few: to be put on the float model",
)
"""An optimized model, as what was changed of its float base."""
HISTOGRAMS = Kind(
    "histograms",
    largest=100_000_000,
    remedy="`qzoo calibrate NAME` writes one; or copy it again.",
    purpose="what each activation quantizer saw: `qzoo solve` finds other ranges in it",
)
"""What a calibration collected."""
RECEIPT = Kind(
    "receipt",
    largest=500_000_000,
    remedy="`qzoo evaluate NAME --receipt FILE` writes one.",
    purpose="the predictions behind the figures, image by image: `qzoo verify` recomputes them",
)
"""The predictions behind a figure."""
TRAINING = Kind(
    "training",
    largest=LARGEST_TEXT,
    remedy="`qzoo finetune NAME` writes one; or copy it again.",
    purpose="how it was trained: schedule, curve, machine",
    extension="json",
)
"""How a model was trained."""
BENCHMARK = Kind(
    "benchmark",
    largest=LARGEST_TEXT,
    remedy="`qzoo benchmark NAME` writes one.",
    extension="json",
)
"""What it takes in a runtime; before its suffix the file's name has that of the runtime."""
KINDS = (MODEL, RANGES, ROUNDING, HISTOGRAMS, RECEIPT, TRAINING)
"""Those that a hub model can have."""


def beside_recipe(entry: RecipeEntry, full_name: str, kind: Kind) -> Path | None:
    """Returns where an artifact of a variant lies beside its recipe, if it is shipped with it; None without a file."""
    return entry.path.parent / FOLDER / f"{full_name}{kind.suffix}" if entry.path else None
