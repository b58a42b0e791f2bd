"""Random numbers that are the same on every machine and with every release of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class RandomStream:
    """Numbers drawn one after the other from the raw bits of PCG64.

    NumPy promises the bits of a bit generator for ever, and nothing of what its distributions make of them.

    Args:
        seed: at least 0.
        index: which of many independent streams of that seed, at least 0.

    Example:
        >>> RandomStream(0, 0).uniform(2).round(4).tolist()
        [0.9429, 0.3163]
    """

    def __init__(self, seed: int, index: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,)))

    def uniform(self, *shape: int) -> Floats:
        """Returns numbers from 0 to below 1, float64 of a shape, each a multiple of `2 ** -53`."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return np.reshape((raw >> np.uint64(11)) * 2.0**-53, shape)

    def normal(self, *shape: int) -> Floats:
        """Returns numbers of mean 0 and deviation 1, float64 of a shape.

        Source: G. E. P. Box and M. E. Muller 1958, "A Note on the Generation of Random Normal Deviates".
        """
        u, v = self.uniform(2, *shape)
        # 1 - u is never 0.
        return np.asarray(np.sqrt(-2 * np.log(1 - u)) * np.cos(2 * np.pi * v))
