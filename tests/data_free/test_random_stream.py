"""Random numbers that no release of NumPy changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data_free.random_stream import RandomStream

seeds = st.integers(0, 2**40)
KNOWN = [0.9429375528828794, 0.3163371523854981, 0.7223425886498254]


@given(seed=seeds, index=st.integers(0, 2**20))
def test_uniform_numbers_are_the_53_upper_bits_of_pcg64(seed: int, index: int) -> None:
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))).random_raw(6)
    by_hand = [int(raw) // 2**11 / 2**53 for raw in bits]
    assert RandomStream(seed, index).uniform(2, 3).ravel().tolist() == by_hand


def test_the_stream_is_the_same_for_ever() -> None:
    assert RandomStream(0, 0).uniform(3).tolist() == KNOWN


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    drawn = RandomStream(1, 2).normal(100_000)
    moments = [np.mean(drawn**power) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.1)


@given(seed=seeds)
def test_streams_of_a_seed_are_independent(seed: int) -> None:
    one, other = (RandomStream(seed, index).uniform(2000) for index in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.12


@given(seed=seeds, shape=st.lists(st.integers(0, 3), max_size=3))
def test_shapes_are_kept(seed: int, shape: list[int]) -> None:
    stream = RandomStream(seed, 0)
    assert stream.uniform(*shape).shape == stream.normal(*shape).shape == tuple(shape)
