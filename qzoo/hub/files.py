"""The files of a published model: how they are called, what for, and how large they are at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from qzoo.runtimes.registry import RUNTIMES
from qzoo.schema.model import LARGEST_TEXT
from qzoo.weights.kinds import KINDS, LARGEST_FILE

MANIFEST = "manifest.json"
"""Says which of the files there are, and what they have to be; of itself it says nothing."""
RECIPE, CONFIG, CARD, EXPORTS = "recipe.yaml", "config.json", "README.md", "exports.json"


@dataclass(frozen=True)
class PublishedFile:
    """A file that a published model can have.

    Attributes:
        purpose: what it is for, as the model card says it.
        largest: bytes; a larger one is not fetched.
    """

    purpose: str
    largest: int = LARGEST_TEXT


FILES: dict[str, PublishedFile] = {
    **{kind.file: PublishedFile(kind.purpose, kind.largest) for kind in KINDS},
    **{runtime.file: PublishedFile(runtime.purpose, LARGEST_FILE) for runtime in RUNTIMES.values()},
    EXPORTS: PublishedFile("what was checked of the ONNX files, quantizer by quantizer"),
    RECIPE: PublishedFile("the recipe below; needs no other file"),
    CONFIG: PublishedFile("architecture, names of the classes, transform: to be read without qzoo"),
    CARD: PublishedFile("this card"),
}
"""By name, as the card lists them. No other name is ever read, so none can lead out of the folder."""


def _known(name: str) -> str:
    if name not in FILES:
        raise ValueError("a published model has no file of that name")
    return name


FileName = Annotated[str, AfterValidator(_known)]
