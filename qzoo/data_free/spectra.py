"""Random fields whose spectrum falls as that of photographs does."""

from __future__ import annotations

import numpy as np

from qzoo.data_free.random_stream import Floats, RandomStream


def one_over_f(size: int, exponent: float, fields: int, stream: RandomStream) -> Floats:
    """Returns fields of random phases whose amplitudes fall as `1 / frequency ** exponent`.

    White noise goes through a filter, `F(noise) / f ** exponent`, so that no direction and no place is preferred. They
    are periodic: what leaves at one edge comes in at the other.

    Args:
        size: height and width.
        exponent: 0 is white noise; photographs have about 1.
        fields: how many, independent of each other.
        stream: where the noise comes from.

    Returns:
        float64 `(fields, size, size)`, each of mean 0 and deviation 1; of 0 where `size` is 1.

    Source: D. J. Field 1987, "Relations between the statistics of natural images and the response properties of
    cortical cells"; as images to train on: M. Baradad et al. 2021, "Learning to See by Looking at Noise"
    (arXiv 2106.05963), section 3.2.

    Example:
        >>> x = one_over_f(64, 1.0, fields=3, stream=RandomStream(0, 0))
        >>> x.shape, x.std((1, 2)).round(6).tolist()
        ((3, 64, 64), [1.0, 1.0, 1.0])
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = 1.0
    amplitude = frequency**-exponent
    amplitude[0, 0] = 0.0  # no constant
    made = np.fft.irfft2(np.fft.rfft2(stream.uniform(fields, size, size)) * amplitude, s=(size, size))
    deviation = made.std((1, 2), keepdims=True)
    return np.asarray(made / np.where(deviation > 0, deviation, 1.0))
