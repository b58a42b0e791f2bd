"""Dead leaves: shapes of all sizes that hide each other, as the objects of a photograph do.

Source: A. B. Lee, D. Mumford and J. Huang 2001, "Occlusion Models for Natural Images: A Statistical Study of a
Scale-Invariant Dead Leaves Model": the radii have density `r ** -3`, for which no scale is preferred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from qzoo.data_free.random_stream import Floats, RandomStream

LARGEST = 0.5
"""The largest radius, in sides of the image."""
COVERED = 4.0
"""How often a pixel is covered, on average: `exp(-4)` is left to the ground."""
AT_ONCE = 1 << 15
"""Pixels of boxes that are looked at together, about: so that a processor keeps them near."""
MARGIN = 0.25
"""How far outside the image centres may lie, in sides of the image."""
NARROWEST = 0.4
"""The least ratio of a leaf's two axes."""


def radii(u: Floats, smallest: float, largest: float) -> Floats:
    """Returns radii of density proportional to `r ** -3`: the inverse of their distribution.

    Args:
        u: uniform in 0..1.
        smallest: radius where `u` is 0.
        largest: radius where `u` is 1.

    Example:
        >>> radii(np.array([0.0, 1.0]), 0.5, 2.0).tolist()
        [0.5, 2.0]
    """
    # Of square roots and quotients alone, which are exact to the last bit on every machine.
    return np.asarray(1 / np.sqrt(smallest**-2 + u * (largest**-2 - smallest**-2)))


def leaf_count(smallest: float) -> int:
    """Returns how many leaves cover a pixel `COVERED` times on average, where radii begin at `smallest` sides."""
    mean_square = 2 * math.log(LARGEST / smallest) / (smallest**-2 - LARGEST**-2)
    area = (math.pi + 4) / 2 * mean_square * (1 + NARROWEST) / 2  # half are discs, half are squares
    return math.ceil(COVERED * (1 + 2 * MARGIN) ** 2 / area)


def dead_leaves(size: int, smallest: float, stream: RandomStream) -> tuple[NDArray[np.int64], int]:
    """Returns which leaf each pixel shows.

    Leaves are discs and squares, stretched and turned; of those that cover a pixel, the one of the highest label lies
    on top.

    Args:
        size: height and width.
        smallest: the smallest radius, in sides of the image; below `LARGEST`.
        stream: where they come from.

    Returns:
        Labels `(size, size)`, 0 for the ground, and how many labels there are.

    Example:
        >>> labels, count = dead_leaves(32, 0.05, RandomStream(0, 0))
        >>> labels.shape, bool(labels.max() < count)
        ((32, 32), True)
    """
    count = leaf_count(smallest)
    leaves = _drawn(count, size, smallest, stream)
    labels = np.zeros(size * size, np.int64)
    # Leaves of like size at once, each in a box around it that is no more than twice as wide.
    widths = np.exp2(np.ceil(np.log2(leaves.reach + 1))).astype(np.int64)
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        for some in np.array_split(chosen, math.ceil(len(chosen) * min(2 * width, size) ** 2 / AT_ONCE)):
            places, shown = _pixels(leaves, some, int(width), size)
            np.maximum.at(labels, places, shown)
    return labels.reshape(size, size), count + 1


@dataclass(frozen=True)
class _Leaves:
    """Shapes, each an array with a value a leaf; lengths in pixels.

    Attributes:
        x: column of the centre.
        y: row of the centre.
        radius: half the longer axis, or side.
        narrow: the shorter axis relative to the longer one.
        cosine: of the turn.
        sine: of the turn.
        disc: whether it is a disc, or a square.
    """

    x: Floats
    y: Floats
    radius: Floats
    narrow: Floats
    cosine: Floats
    sine: Floats
    disc: NDArray[np.bool_]

    @property
    def reach(self) -> Floats:
        """The farthest that a leaf goes from its centre."""
        return np.asarray(self.radius * np.where(self.disc, 1.0, np.sqrt(1 + self.narrow**2)))


def _drawn(count: int, size: int, smallest: float, stream: RandomStream) -> _Leaves:
    across, down, u, turn, narrow, disc = stream.uniform(6, count)
    x, y = (((1 + 2 * MARGIN) * at - MARGIN) * size for at in (across, down))
    # By up to a quarter each way, of its half's tangent: no library's sine, each of which rounds in its own way.
    tangent = 2 * turn - 1
    cosine, sine = (1 - tangent**2) / (1 + tangent**2), 2 * tangent / (1 + tangent**2)
    radius, narrow = radii(u, smallest, LARGEST) * size, NARROWEST + (1 - NARROWEST) * narrow
    return _Leaves(x, y, radius, narrow, cosine, sine, disc < 0.5)


def _pixels(leaves: _Leaves, chosen: NDArray[np.intp], width: int, size: int) -> tuple[NDArray[np.int64], ...]:
    """Returns the pixels that some leaves cover, each as often as it is covered, and the label of the leaf there.

    Args:
        leaves: all.
        chosen: some of them, none of which reaches farther than `width` pixels.
        width: half the side of a box.
        size: height and width of the image.
    """
    of = _Leaves(*(getattr(leaves, field.name)[chosen, None, None] for field in fields(leaves)))
    if 2 * width < size:
        box = np.arange(1 - width, width + 1)
        row, column = np.floor(of.y).astype(np.int64) + box[:, None], np.floor(of.x).astype(np.int64) + box
    else:
        row, column = np.arange(size)[None, :, None], np.arange(size)[None, None]
    down, along = row - of.y, column - of.x
    u, v = along * of.cosine + down * of.sine, (down * of.cosine - along * of.sine) / of.narrow
    inside = np.where(of.disc, np.sqrt(u * u + v * v), np.maximum(abs(u), abs(v))) < of.radius
    inside &= (row >= 0) & (row < size) & (column >= 0) & (column < size)
    places = np.broadcast_to(row * size + column, inside.shape)
    return places[inside], chosen[np.nonzero(inside)[0]] + 1
