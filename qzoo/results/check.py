"""The report of a check of ranges. The JSON that `qzoo check --json` writes."""

from __future__ import annotations

import json
from typing import ClassVar, Literal

from pydantic import Field

from qzoo.errors import some
from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel

LOW_AGREEMENT = 90.0
"""In percent: a model whose agreement with float is surely below this differs from it for every tenth image."""
MOST_NAMED = 3
Fault = Literal["narrow", "wide"]
Verdict = Literal["fine", "layers", "recalibrate", "low agreement"]


class CheckedQuantizer(Readable, StrictModel):
    """The range of one quantizer, beside the one that its calibrator finds here."""

    path: str
    """Module path of the quantizer."""
    of: Literal["activation", "weight"]
    """What it quantizes."""
    range: tuple[float, float]
    """Smallest and largest value that it represents; of a weight per channel, of the channel that disagrees most."""
    found: tuple[float, float]
    """The same of the range that its calibrator finds: of a weight in its values, else on these images, without that
    quarter of them that makes it largest."""
    ratio: float | None
    """The range divided by the one found; null where that is 0."""
    clipped: float
    """Share of the values beyond the range, in percent."""
    fault: Fault | None
    """Whether the range is too narrow or too wide; null where it is neither, or where that can't be told."""
    judged: bool
    """Whether the range was to be what the calibrator finds: one that was learned, or of weights that were trained or
    lie on its grid, was not."""


class CheckReport(Readable, StrictModel):
    """How well the ranges of a model fit some images."""

    also_shown: ClassVar[tuple[str, ...]] = ("verdict", "sentence")

    name: str
    images: int = Field(ge=1)
    agreement: float
    """Share of images with the first prediction of the float model, in percent."""
    ci95: tuple[float, float]
    """Its 95 % confidence interval."""
    sqnr_db: float | None
    """Signal to quantization noise of the logits, in dB; null where they are equal bit for bit."""
    quantizers: list[CheckedQuantizer]
    """Faults first, then by how far the range is from the one found."""
    seconds: float

    @property
    def faults(self) -> list[CheckedQuantizer]:
        """The quantizers whose range is wrong."""
        return [one for one in self.quantizers if one.fault is not None]

    @property
    def verdict(self) -> Verdict:
        """`fine`; `layers`, which `faults` names; `recalibrate`: most ranges are wrong; or `low agreement`.

        The last says that the ranges fit, as far as they can be judged, and the model still is not like the float one.
        """
        if not self.faults:
            return "low agreement" if self.ci95[1] < LOW_AGREEMENT else "fine"
        most = any(2 * len(wrong) > judged for wrong, judged in map(self._judged, ("activation", "weight")))
        return "recalibrate" if most else "layers"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        wrong = [f"{one.path} (too {one.fault})" for one in self.faults]
        judged = sum(one.judged for one in self.quantizers)
        rest = len(self.quantizers) - judged
        learned = f"; {rest:,} more were learned, and have no other range to be held against" if rest else ""
        return {
            "fine": f"{judged:,} ranges fit these images{learned}.",
            "layers": f"{len(wrong):,} of {judged:,} ranges do not fit: {some(wrong, MOST_NAMED)}.",
            "recalibrate": f"Most ranges do not fit these images: {some(wrong, MOST_NAMED)}.",
            "low agreement": f"{judged:,} ranges fit these images{learned}; but the model does not predict what the "
            "float model does, so it is something else: too few bits, or other weights.",
        }[self.verdict]

    def _judged(self, of: str) -> tuple[list[CheckedQuantizer], int]:
        """Returns the faulty quantizers of a kind, and how many of that kind were judged."""
        return [one for one in self.faults if one.of == of], sum(one.judged for one in self.quantizers if one.of == of)

    def to_json(self) -> str:
        """Returns the JSON."""
        said = {"verdict": self.verdict, "sentence": self.sentence, **self.model_dump(mode="json")}
        return json.dumps({"schema": 1, **said}, indent=1)
