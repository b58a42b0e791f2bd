"""The slope of the spectrum, and what else a 1/f field is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data_free.random_stream import RandomStream
from qzoo.data_free.spectra import one_over_f


def slope(fields: np.ndarray) -> float:
    """The exponent of the amplitude, fitted to the power at all frequencies below half the highest one."""
    size = fields.shape[-1]
    power = (np.abs(np.fft.fft2(fields)) ** 2).mean(0)
    at = np.sqrt(np.add.outer(np.fft.fftfreq(size) ** 2, np.fft.fftfreq(size) ** 2))
    fitted = (at > 0) & (at < 0.5)
    return float(-np.polyfit(np.log(at[fitted]), np.log(power[fitted]), 1)[0] / 2)


@given(exponent=st.floats(0, 2), seed=st.integers(0, 1000))
def test_amplitudes_fall_with_the_exponent(exponent: float, seed: int) -> None:
    assert slope(one_over_f(64, exponent, 8, RandomStream(seed, 0))) == pytest.approx(exponent, abs=0.06)


@given(size=st.integers(2, 33), exponent=st.floats(0, 2), seed=st.integers(0, 1000))
def test_fields_have_mean_0_and_deviation_1(size: int, exponent: float, seed: int) -> None:
    made = one_over_f(size, exponent, 2, RandomStream(seed, 0))
    assert made.shape == (2, size, size)
    np.testing.assert_allclose(made.mean((1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(made.std((1, 2)), 1, rtol=1e-9)


def test_a_single_pixel_has_no_spectrum() -> None:
    assert one_over_f(1, 1.0, 2, RandomStream(0, 0)).tolist() == [[[0.0]], [[0.0]]]


def test_fields_are_independent() -> None:
    one, other = one_over_f(128, 0.0, 2, RandomStream(0, 0))
    assert abs(np.mean(one * other)) < 0.03


def test_no_direction_is_preferred() -> None:
    power = (np.abs(np.fft.fft2(one_over_f(64, 1.0, 64, RandomStream(0, 0)))) ** 2).mean(0)
    np.testing.assert_allclose(power[0, 1:20], power[1:20, 0], rtol=0.8)
    assert np.log(power[0, 1:32] / power[1:32, 0]).mean() == pytest.approx(0, abs=0.1)
