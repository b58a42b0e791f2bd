"""The mean of a clipped normal distribution, against a sum over its density, in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qzoo.optimization.closed_form.clipped_normal import clipped_normal_mean
from tests.each import for_each


@settings(max_examples=15)
@given(st.floats(-4, 4), st.floats(0.05, 3))
def test_it_is_the_mean_of_the_clipped_values(mean: float, deviation: float) -> None:
    for low, high in [(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, math.inf)]:
        x = np.linspace(-9, 9, 2_001)
        density = np.exp(-(x**2) / 2)
        expected = (np.clip(mean + deviation * x, low, high) * density).sum() / density.sum()
        found = clipped_normal_mean(torch.tensor(mean), torch.tensor(deviation), low, high)
        assert float(found) == pytest.approx(expected, abs=1e-3)


@for_each("mean, expected", [(-1.0, 0.0), (2.0, 2.0), (9.0, 6.0)])
def test_without_deviation_it_is_the_clipped_mean(mean: float, expected: float) -> None:
    assert float(clipped_normal_mean(torch.tensor(mean), torch.tensor(0.0), 0.0, 6.0)) == pytest.approx(expected)
