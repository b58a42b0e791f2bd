"""What a page shows beside the figures of a result: tensors and their ranges, noise, the images that flipped.

It is gathered only where somebody asks for it, and stands in no JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

LabelledAs = Literal["lost", "gained", "both wrong", "no label"]


class SeenValues(NamedTuple):
    """A histogram of the values of a tensor, negative ones apart from positive ones.

    Attributes:
        edges: one more than counts, ascending, in units of the tensor.
        counts: values in each bin.
        low: the smallest value.
        high: the largest value.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class QuantizerDetail:
    """One quantizer, and what passed through it.

    Attributes:
        path: its path in the model.
        of: what it quantizes.
        spec: format, bits, granularity and calibrator, as text.
        amax: the largest magnitude of its range, or its width, where it has a zero point; of channels the largest.
        range: smallest and largest value that it represents; of channels, of all of them together.
        seen: the values of its tensor in float.
        clipped: share of these beyond the range, in percent; None where they were not counted.
        own_sqnr_db: signal to quantization noise of what it does to its input; None where that is nothing.
        sqnr_db: the same of what it gives, noise of all quantizers before it included; None for a weight, or no noise.
    """

    path: str
    of: Literal["activation", "weight"]
    spec: str
    amax: float
    range: tuple[float, float]
    seen: SeenValues | None
    clipped: float | None
    own_sqnr_db: float | None
    sqnr_db: float | None = None


class Answer(NamedTuple):
    """What a quantized model says of an image.

    Attributes:
        variant: which one.
        predicted: the class.
        margin: by how much its logit exceeds the second.
    """

    variant: str
    predicted: str
    margin: float


@dataclass(frozen=True)
class FlippedImage:
    """An image whose first prediction is another one once the model is quantized.

    Attributes:
        index: its place in the split.
        label: the class that it is of; None where nobody knows.
        predicted: the class that the float model says.
        margin: by how much its logit exceeds the second.
        answers: of the variants that say otherwise.
        picture: a small square WebP; empty where there is none.
    """

    index: int
    label: str | None
    predicted: str
    margin: float
    answers: tuple[Answer, ...]
    picture: bytes = b""

    @property
    def by_class(self) -> list[tuple[list[Answer], LabelledAs]]:
        """The answers, those of one class together, with what they mean."""
        found: dict[str, list[Answer]] = {}
        for answer in self.answers:
            found.setdefault(answer.predicted, []).append(answer)
        return [(alike, self.kind(alike[0])) for alike in found.values()]

    def kind(self, answer: Answer) -> LabelledAs:
        """Returns what an answer means: an image lost, gained, or wrong before and after."""
        if self.label is None:
            return "no label"
        if self.label == self.predicted:
            return "lost"
        return "gained" if self.label == answer.predicted else "both wrong"

    @property
    def decisive(self) -> float:
        """How far apart the answers are: the margin of float and the largest of a variant, together."""
        return self.margin + max(answer.margin for answer in self.answers)


@dataclass
class Details:
    """Filled in by whoever measures, if it is given one; `qzoo.html` shows what it finds.

    Attributes:
        name: of what was looked at, for results that do not tell it.
        command: what to type for the same result.
        recipe: YAML of what was measured.
        environment: versions, processor and threads, for results that do not tell them.
        quantizers: by variant, in the order in which tensors pass them.
        compared: images that the noise of quantizers was measured on.
        seen_on: where histograms come from, in words.
        flips: images that flipped, the most decisive first.
        flips_left_out: how many more there are.
        flipped: whether flips were looked for.

    Example:
        >>> details = Details()
        >>> report = qzoo.reproduce("resnet8_digits", only=["w4a4"], details=details)
        >>> len(details.flips), details.quantizers["w4a4"][0].path
        (2, 'conv1.input_quantizer')
    """

    name: str = ""
    command: str | None = None
    recipe: str | None = None
    environment: dict[str, str | int] = field(default_factory=dict)
    quantizers: dict[str, list[QuantizerDetail]] = field(default_factory=dict)
    compared: int = 0
    seen_on: str = ""
    flips: list[FlippedImage] = field(default_factory=list)
    flips_left_out: int = 0
    flipped: bool = False

    def named(self, name: str) -> Details:
        """Returns the same for a result that may tell its name, with the quantizers of that variant where there are."""
        own = {name: self.quantizers[name]} if name in self.quantizers else self.quantizers
        return replace(self, name=name or self.name, quantizers=own)
