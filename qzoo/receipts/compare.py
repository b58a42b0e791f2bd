"""Comparing predictions with those of a receipt: what any machine may differ in, and what is another model.

In the usual arithmetic, float32, little can be said: batch size 1 instead of 250 moves the margins of a quarter of all
images of `resnet20_cifar10_int8`, oneDNN switched off those of three quarters, and in a deeper network those of all.
Exact margins, in float64, tell both apart: docs/receipts.md has the measurements, and the command that makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qzoo.results.readable import Readable
from qzoo.weights.receipt import Predictions

SAME = 1e-4
"""A float32 margin is the same within this share of the receipt's median margin."""
EXACTLY_SAME = 1e-6
"""An exact margin is the same within this share of the receipt's median margin.

Other machines move it by less than 1e-13; a step of a quantizer by 1e-3 and more.
"""
MOST_MOVED = 0.1
"""Share of images whose exact margin may move, for sums that lie at the edge of a step even in float64."""
MOST_FLIPPED = 0.03
"""Share of images whose float32 prediction may flip, and at least 3: a guard against grossly other arithmetic."""


@dataclass(frozen=True, repr=False)
class Usual(Readable):
    """Predictions in the usual arithmetic, beside those of the receipt.

    Attributes:
        images: how many were compared.
        identical: same first class, margin the same.
        moved: same first class, another margin.
        flipped: another first class.
        largest: shift of a margin, in logits.
    """

    images: int
    identical: int
    moved: int
    flipped: int
    largest: float

    @property
    def alarm(self) -> bool:
        """Whether so many predictions flipped that rounding is no explanation."""
        return self.flipped > max(3, MOST_FLIPPED * self.images)


@dataclass(frozen=True, repr=False)
class Exact(Readable):
    """Exact margins beside those of the receipt.

    Attributes:
        images: how many were compared.
        moved: how many have another margin.
        largest: shift of a margin, in logits.
    """

    images: int
    moved: int
    largest: float

    @property
    def alarm(self) -> bool:
        """Whether this is another model."""
        return self.moved > MOST_MOVED * self.images


def compare_usual(claimed: Predictions, found: Predictions) -> Usual:
    """Returns how predictions differ from those of a receipt, on the same images in the same order."""
    shift = (claimed.margins - found.margins).abs()
    flipped = claimed.top[:, 0] != found.top[:, 0]
    moved = ~flipped & ~(shift <= SAME * claimed.margins.median())
    counts = (int(flipped.sum()), int(moved.sum()))
    return Usual(len(shift), len(shift) - sum(counts), counts[1], counts[0], float(shift.max()))


def compare_exact(claimed: Tensor, found: Tensor) -> Exact:
    """Returns how exact margins differ from those of a receipt, on the same images in the same order."""
    shift = (claimed - found).abs()
    return Exact(len(shift), int((~(shift <= EXACTLY_SAME * claimed.median())).sum()), float(shift.max()))
