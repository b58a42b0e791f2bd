"""Total variation, against NumPy."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data_free.objective import total_variation


@given(size=st.integers(2, 9), seed=st.integers(0, 100))
def test_it_is_the_mean_squared_difference_of_neighbours(size: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((2, 3, size, size))
    down, across = (np.mean(np.diff(pixels, axis=axis) ** 2) for axis in (2, 3))
    np.testing.assert_allclose(float(total_variation(torch.from_numpy(pixels))), (down + across) / 2)


@given(value=st.floats(0, 1))
def test_a_flat_image_has_none(value: float) -> None:
    assert total_variation(torch.full((1, 1, 4, 4), value)) == 0
    assert total_variation(torch.full((1, 1, 1, 1), value)) == 0
