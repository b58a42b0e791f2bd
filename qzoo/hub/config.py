"""`config.json` of a published model: architecture, classes and transform, for whoever reads it without qzoo."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qzoo.schema.model import StrictModel

Text = Annotated[str, Field(max_length=500)]


class InputConfig(StrictModel):
    """What the model expects of an image."""

    channels: int
    size: int
    """Height and width."""
    mean: list[float]
    """Of each channel, for pixels in 0..1."""
    std: list[float]
    """Standard deviation of each channel."""
    interpolation: Text
    """Of the resize before it."""


class ModelConfig(StrictModel):
    """What a published model is."""

    library_name: Literal["qzoo"] = "qzoo"
    name: Text
    source: Text
    """Whose class it is: torchvision, timm or qzoo."""
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
