"""Random images with the statistics of photographs: neighbouring pixels and the three colours are alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def natural_images(count: int, size: int, seed: int = 0) -> Tensor:
    """Returns images `(count, 3, size, size)`, float32, mean 0 and standard deviation 1, the same for a seed.

    Their amplitudes fall as 1/f, as those of photographs do (Field, 1987).

    Args:
        count: of images.
        size: height and width.
        seed: of the noise.

    Example:
        >>> natural_images(2, 32).shape
        torch.Size([2, 3, 32, 32])
    """
    noise = np.random.default_rng(seed).normal(size=(2, count, 4, size, size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    made = np.fft.ifft2((noise[0] + 1j * noise[1]) / np.maximum(frequency, 1 / size)).real
    grey, colours = made[:, :1], made[:, 1:]
    pixels = grey + 0.5 * colours
    pixels = pixels - pixels.mean((1, 2, 3), keepdims=True)
    return torch.from_numpy((pixels / pixels.std((1, 2, 3), keepdims=True)).astype(np.float32))
