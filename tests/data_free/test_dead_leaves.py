"""Radii, coverage and shapes of dead leaves, against arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data_free.dead_leaves import COVERED, LARGEST, MARGIN, dead_leaves, leaf_count, radii
from qzoo.data_free.random_stream import RandomStream


@given(smallest=st.floats(0.01, 0.2), at=st.floats(0.05, 0.95))
def test_radii_have_density_of_the_cube(smallest: float, at: float) -> None:
    radius = smallest + at * (LARGEST - smallest)
    grid = np.linspace(smallest, LARGEST, 20_001)
    below = grid <= radius
    # The share below a radius: the integral of r ** -3, by the trapezoidal rule.
    share = np.trapezoid(grid[below] ** -3.0, grid[below]) / np.trapezoid(grid**-3.0, grid)
    assert radii(np.array([share]), smallest, LARGEST)[0] == pytest.approx(radius, rel=0.02)


@given(u=st.floats(0, 1))
def test_radii_lie_between_their_ends(u: float) -> None:
    assert 0.02 * (1 - 1e-12) <= radii(np.array(u), 0.02, 0.5) <= 0.5 * (1 + 1e-12)


@pytest.mark.parametrize("smallest", [0.03, 0.1])
def test_leaves_cover_a_pixel_so_often(smallest: float) -> None:
    uncovered = [np.mean(dead_leaves(64, smallest, RandomStream(seed, 0))[0] == 0) for seed in range(60)]
    # Leaves cover a pixel as a Poisson process: none does so with this probability.
    assert np.mean(uncovered) == pytest.approx(math.exp(-COVERED), rel=0.5)


def test_later_leaves_hide_earlier_ones_as_painting_one_by_one_does() -> None:
    size, smallest = 40, 0.05
    count = leaf_count(smallest)
    across, down, u, turn, narrow, disc = RandomStream(3, 0).uniform(6, count)
    painted = np.zeros((size, size), int)
    rows, columns = np.mgrid[:size, :size]
    for leaf in range(count):
        y, x = (((1 + 2 * MARGIN) * at[leaf] - MARGIN) * size for at in (down, across))
        angle = 2 * math.atan(2 * turn[leaf] - 1)
        along = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
        beside = ((rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)) / (0.4 + 0.6 * narrow[leaf])
        far = np.hypot(along, beside) if disc[leaf] < 0.5 else np.maximum(np.abs(along), np.abs(beside))
        painted[far < (smallest**-2 + u[leaf] * (LARGEST**-2 - smallest**-2)) ** -0.5 * size] = leaf + 1
    labels, labels_count = dead_leaves(size, smallest, RandomStream(3, 0))
    assert labels_count == count + 1
    assert np.mean(labels != painted) < 0.002  # edges, where the last digit decides


@given(size=st.integers(1, 24), smallest=st.floats(0.02, 0.25), seed=st.integers(0, 1000))
def test_labels_are_those_of_leaves(size: int, smallest: float, seed: int) -> None:
    labels, count = dead_leaves(size, smallest, RandomStream(seed, 0))
    assert labels.shape == (size, size)
    assert 0 <= labels.min() <= labels.max() < count
