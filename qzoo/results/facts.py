"""What there is to know of a recipe without its weights: sizes, costs of each variant, claims. `recipes/facts.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel

Need = Literal["fp8", "unsigned", "zero_points", "weight_zero_points"]
"""What not every runtime takes: FP8 formats, unsigned activations, zero points of activations or of weights."""
Share = Annotated[float, Field(ge=0, le=1)]


class Figure(Readable, StrictModel):
    """What a recipe claims of accuracy, with its source."""

    text: str
    """As tables show it: `76.1 ±0.15`, `≥ 74.4`, `drop ≤ 1.88`."""
    top1: float | None = None
    """The figure itself, in percent; null for a bound."""
    source: str
    """Who published it and where; for a run of our own the command, date and hardware."""
    own: bool = False
    """An earlier run of our own."""


class ModelSize(Readable, StrictModel):
    """What a float model comes to."""

    parameters: int
    macs: int
    """Multiply-accumulates by weights, for one image of the size that its weights are made for."""
    bytes: int
    """Parameters and the buffers that are floats, 4 bytes each."""


class VariantCosts(Readable, StrictModel):
    """What a variant comes to, by its plan: no quantizer needs a range for it."""

    bits: float
    """Average bits of a weight of a layer; a weight in float has 32."""
    bytes: int
    """Weights at their bits, all else in float32, scales and zero points of the weights."""
    integer_share: Share
    """Share of the multiply-accumulates by weights whose two operands are quantized to integers; FP8 is none."""
    needs: list[Need] = Field(default_factory=list)


class VariantFacts(Readable, StrictModel):
    """A variant of a recipe."""

    digest: str
    """SHA-256 of all that can move its numbers."""
    method: str | None
    made_by: Literal["ranges", "rounding", "model"]
    """The kind of file that makes it of its base."""
    published: list[Figure]
    costs: VariantCosts | None = None
    """Null until they are computed, which takes the model."""


class RecipeFacts(Readable, StrictModel):
    """A recipe, as far as a list of the zoo speaks of it."""

    files: str
    """SHA-256 of the recipe's file, and the schemes and sets of variants that it can name: whether this is current."""
    version: int
    dataset: str
    architecture: str
    """Source and name: `torchvision/resnet50`."""
    published: list[Figure]
    size: ModelSize | None = None
    variants: dict[str, VariantFacts]
    """By name."""


class ZooFacts(StrictModel):
    """The file: facts of many recipes, by the name of the base."""

    recipes: dict[str, RecipeFacts]
