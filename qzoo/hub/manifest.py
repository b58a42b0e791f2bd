"""The files of a hub model: which there may be, and what it says of itself in JSON.

`manifest.json`: which files it consists of, each with its size and SHA-256. `config.json`: architecture, classes and
transform, for whoever reads it without qzoo.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from qzoo.errors import WeightsError
from qzoo.results.readable import Readable
from qzoo.runtimes.registry import RUNTIMES
from qzoo.schema.model import LARGEST_TEXT, ModelName, StrictModel
from qzoo.weights.kinds import KINDS, LARGEST_FILE

MANIFEST = "manifest.json"
"""Says which of the files there are, and what they have to be; of itself it says nothing."""
RECIPE, CONFIG, CARD, EXPORTS = "recipe.yaml", "config.json", "README.md", "exports.json"


@dataclass(frozen=True)
class ReleasedFile:
    """A file that a hub model can have.

    Attributes:
        purpose: what it is for, as the model card says it.
        largest: bytes; a larger one is not fetched.
    """

    purpose: str
    largest: int = LARGEST_TEXT


FILES: dict[str, ReleasedFile] = {
    **{kind.file: ReleasedFile(kind.purpose, kind.largest) for kind in KINDS},
    **{runtime.file: ReleasedFile(runtime.purpose, LARGEST_FILE) for runtime in RUNTIMES.values()},
    EXPORTS: ReleasedFile("what was checked of the ONNX files, quantizer by quantizer"),
    RECIPE: ReleasedFile("the recipe below; needs no other file"),
    CONFIG: ReleasedFile("architecture, names of the classes, transform: to be read without qzoo"),
    CARD: ReleasedFile("this card"),
}
"""By name, as the card lists them. No other name is ever read, so none can lead out of the folder."""


def _known(name: str) -> str:
    if name not in FILES:
        raise ValueError("a hub model has no file of that name")
    return name


FileName = Annotated[str, AfterValidator(_known)]


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=500)]


class FileFacts(StrictModel):
    """What a file has to be."""

    bytes: int = Field(ge=0, le=LARGEST_FILE)
    sha256: Sha256


class Manifest(Readable, StrictModel):
    """A hub model: what it is, and its files."""

    format: Literal["qzoo-published/1"] = "qzoo-published/1"
    name: ModelName
    """Full name of the variant, `resnet50_int8`."""
    base: ModelName
    """The base's name, `resnet50`."""
    variant: ModelName
    """The variant's name in the recipe, `int8`."""
    version: int = Field(ge=1)
    """The version of the recipe."""
    recipe_sha256: Sha256
    """The digest of the resolved variant."""
    base_sha256: Sha256
    """Content digest of the base's float state dict."""
    qzoo: str = Field(max_length=50)
    """The version of qzoo that wrote it."""
    torch: str = Field(max_length=50)
    """The version of torch that the model was made with."""
    files: dict[FileName, FileFacts] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """SHA-256 over everything in it: two models with the same are the same."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the file's text."""
        return json.dumps(self.model_dump(mode="json") | {"digest": self.digest}, indent=1) + "\n"


def read_manifest(path: Path, where: str) -> Manifest:
    """Returns the manifest that a file holds.

    Args:
        path: the path of the file.
        where: it comes from, for messages.

    Raises:
        WeightsError: the file is missing, damaged, or no manifest of this version.
    """
    size = path.stat().st_size if path.is_file() else 0
    if not 0 < size <= LARGEST_TEXT:
        raise WeightsError(f"{where} holds no qzoo model: its {MANIFEST} is missing, empty or too large.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest", None)
        manifest = Manifest.model_validate_json(json.dumps(content))
    except (ValidationError, ValueError, AttributeError, TypeError, RecursionError) as error:
        fault = str(error.errors()[0]["loc"])[:200] if isinstance(error, ValidationError) else type(error).__name__
        raise WeightsError(
            f"The {MANIFEST} of {where} is damaged or of another version of qzoo ({fault}). Fetch it again, or use the "
            "version that wrote it."
        ) from error
    if digest != manifest.digest:
        raise WeightsError(
            f"The {MANIFEST} of {where} is damaged: its digest does not fit its content. Fetch it again."
        )
    return manifest


class InputConfig(StrictModel):
    """What the model expects of an image."""

    channels: int
    size: int
    """Height and width."""
    mean: list[float]
    """The mean of each channel, for pixels in 0..1."""
    std: list[float]
    """Standard deviation of each channel."""
    interpolation: Text
    """The interpolation of the resize before the crop."""


class ModelConfig(StrictModel):
    """What a hub model is."""

    library_name: Literal["qzoo"] = "qzoo"
    name: Text
    source: Text
    """Whose class it is: torchvision, timm, qzoo, or python for one of its author's own."""
    architecture: Text
    """The library's name for it."""
    weights: Text | None
    """The library's name for the float weights."""
    dataset: Text
    num_classes: int = Field(ge=1)
    labels: list[Text] = Field(max_length=100_000)
    """The name of each class, where they are known."""
    input: InputConfig
    parameters: int
    quantizers: int
