"""The kinds of artifacts: what files they are, how large at most, and how one gets another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.model import LARGEST_TEXT

FileName = Literal[
    "recipe.yaml", "config.json", "README.md", "training.json",
    "ranges.safetensors", "model.safetensors", "histograms.safetensors", "receipt.safetensors",
    "exports.json", "tensorrt.onnx", "onnxruntime.onnx", "openvino.onnx",
]  # fmt: skip
"""The files of a published model. No other name is ever read, so none can lead out of the folder."""
MANIFEST = "manifest.json"
RECIPE: FileName = "recipe.yaml"
CONFIG: FileName = "config.json"
CARD: FileName = "README.md"
TRAINING_REPORT: FileName = "training.json"
EXPORTS: FileName = "exports.json"
FOLDER = "artifacts"
"""Beside the recipes of a folder."""
LARGEST_FILE = 20_000_000_000
"""Bytes of a whole model."""


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Attributes:
        name: `ranges`, `histograms`, `receipt`, `model`.
        largest: bytes; a larger file is refused unread.
        remedy: ends a message about a file that can't be used.
        extension: of the file.
    """

    name: str
    largest: int
    remedy: str
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
    def file(self) -> FileName:
        """The file's name in a published model."""
        return cast("FileName", f"{self.name}.{self.extension}")


RANGES = Kind("ranges", largest=64_000_000, remedy="`qzoo calibrate NAME` writes one; or copy it again.")
"""All `amax` of a calibrated model."""
MODEL = Kind("model", largest=LARGEST_FILE, remedy="`qzoo push` makes one; or fetch it again.")
"""A whole model, calibrated or trained."""
HISTOGRAMS = Kind("histograms", largest=100_000_000, remedy="`qzoo calibrate NAME` writes one; or copy it again.")
"""What a calibration collected."""
TRAINING = Kind("training", LARGEST_TEXT, "`qzoo finetune NAME` writes one; or copy it again.", extension="json")
"""How a model was trained."""
RECEIPT = Kind("receipt", largest=500_000_000, remedy="`qzoo evaluate NAME --receipt FILE` writes one.")
"""The predictions behind a figure."""


def largest_of(file: FileName) -> int:
    """Returns how many bytes a file of a published model has at most.

    Example:
        >>> largest_of("ranges.safetensors"), largest_of("recipe.yaml")
        (64000000, 4000000)
    """
    kinds = {kind.file: kind.largest for kind in (RANGES, MODEL, HISTOGRAMS, RECEIPT)}
    return kinds.get(file, LARGEST_FILE if file.endswith(".onnx") else LARGEST_TEXT)


def beside_recipe(entry: RecipeEntry, full_name: str, kind: Kind) -> Path | None:
    """Returns where an artifact of a variant lies beside its recipe, if it is shipped with it; None without a file."""
    return entry.path.parent / FOLDER / f"{full_name}{kind.suffix}" if entry.path else None
