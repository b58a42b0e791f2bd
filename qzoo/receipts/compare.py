"""Comparing with a receipt: what any machine may differ in, and what is another model.

Its images are found among those at hand by their content. In the usual arithmetic, float32, little can be said: batch
size 1 instead of 250 moves the margins of a quarter of all images of `resnet20_cifar10_int8`, oneDNN switched off those
of three quarters, and in a deeper network those of all. Exact margins, in float64, tell both apart: docs/receipts.md
has the measurements, and the command that makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from qzoo.data import Split, sample
from qzoo.errors import DataError
from qzoo.progress import Progress, silent
from qzoo.receipts.make import image_id
from qzoo.results.readable import Readable
from qzoo.tasks.inputs.images import Images
from qzoo.weights.receipt import Predictions, Receipt

CHUNK = 100
"""Images between two looks of the progress."""


@dataclass(frozen=True)
class Chosen:
    """Images of a receipt that are on this machine.

    Attributes:
        images: all of them.
        rows: int64, where each stands in the receipt.
        exact_images: those that have exact margins.
        exact_rows: int64, where each stands among the exact margins.
    """

    images: Images
    rows: Tensor
    exact_images: Images
    exact_rows: Tensor


def find_images(claim: Receipt, everything: Images, wanted: int | None = None, progress: Progress = silent) -> Chosen:
    """Returns images of a receipt that are among some; those that have exact margins first.

    Args:
        claim: the receipt.
        everything: all images here.
        wanted: how many; default: all that are found.
        progress: shown how many images were looked at.

    Raises:
        DataError: none of the receipt's images is here, or none that has an exact margin.
    """
    exact_row = {row: position for position, row in enumerate(claim.exact.rows.tolist())}
    enough = len(claim) if wanted is None else wanted
    exact: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for place, row in _matches(claim, everything.split, progress):
        (exact if row in exact_row else others).append((place, row))
        if len(exact) + len(others) >= enough and len(exact) >= min(enough, len(exact_row)):
            break
    _check(claim, everything, exact, others)
    first = sorted(exact[:enough])
    all_chosen = sorted([*first, *others[: enough - len(first)]])
    return Chosen(
        replace(everything, indices=[place for place, _ in all_chosen]),
        torch.tensor([row for _, row in all_chosen]),
        replace(everything, indices=[place for place, _ in first]),
        torch.tensor([exact_row[row] for _, row in first]),
    )


def _matches(claim: Receipt, split: Split, progress: Progress) -> Iterator[tuple[int, int]]:
    """Yields places of a split and rows of a receipt that hold the same image, in random order."""
    rows: dict[bytes, list[int]] = {}
    for row, name in enumerate(claim.ids.numpy()):
        rows.setdefault(name.tobytes(), []).append(row)
    # The order of a seeded sample: the images of a receipt of fewer than all, and those with exact margins, come first.
    order = sample(split, len(split), seed=0)
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    for place in chain.from_iterable(progress(chunks, len(order), "finding the images")):
        name = image_id(split, place)
        if rows.get(name):
            yield place, rows[name].pop(0)


def _check(claim: Receipt, everything: Images, exact: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    here = f"{everything.split.dataset} {everything.split.name} here ({len(everything):,} images)"
    advice = "Give the folder with the images it was made from: --data PATH."
    if not exact and not others:
        raise DataError(f"None of the receipt's {len(claim):,} images is in {here}. {advice}")
    if not exact:
        raise DataError(
            f"{len(others):,} of the receipt's {len(claim):,} images are in {here}, but none of the "
            f"{len(claim.exact.rows):,} that have exact margins, which alone tell rounding from another model. {advice}"
        )


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
