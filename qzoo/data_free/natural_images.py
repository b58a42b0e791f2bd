"""Images with the statistics of photographs, made of random numbers alone: no data, no model.

    x    = sqrt(w) * leaves + sqrt(1 - w) * texture        three independent fields, each of deviation 1
    rgb  = MEAN + AXES @ (DEVIATIONS * (BETWEEN * shift + WITHIN * contrast * x))

Leaves are objects that hide each other, with edges and flat parts; texture has a spectrum of `1 / f`; `w`, brightness
and contrast are drawn for each image. What was learned on photographs answers to such images much as to those, and so
ranges can be taken from them.

Sources: `spectra.py` and `dead_leaves.py` name theirs. Colours: D. L. Ruderman et al. 1998, "Statistics of cone
responses to natural images", whose axes are brightness, blue against yellow, and red against green; their shares in
ImageNet's pixels: A. Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section
4.1, in the figures of Torch's and later recipes. Networks that learn from such images: M. Baradad et al. 2021,
"Learning to See by Looking at Noise" (arXiv 2106.05963).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qzoo.data_free.dead_leaves import LARGEST, dead_leaves
from qzoo.data_free.random_stream import Floats, RandomStream
from qzoo.data_free.spectra import one_over_f
from qzoo.errors import ArgumentError

MEAN = np.array([0.485, 0.456, 0.406])
"""The mean of ImageNet's pixels, red, green and blue, in 0..1."""
DEVIATIONS = np.sqrt([0.2175, 0.0188, 0.0045])
"""Deviations of ImageNet's pixels along their principal components: the roots of the covariance's eigenvalues."""
AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
"""Principal components, one a column: grey, blue against red, green against purple."""
BETWEEN, WITHIN = 0.6, 0.95
"""Shares of the deviation. ImageNet's pixels have one of 0.226 within an image, by the figures that normalize them, and
of 0.283 in all, which would be 0.6 and 0.8; some of what is within an image is lost where it is clipped."""
CONTRAST = 0.35
"""Deviation of the logarithm of an image's contrast."""
EXPONENTS = (1.0, 1.8)
"""Between these lies the exponent of an image's spectrum."""
SMALLEST, SMALLEST_PIXELS = (0.02, 0.1), 1.5
"""The radius of an image's smallest leaf: between these, in sides of the image, and no less than in pixels."""
GREY = np.array([0.299, 0.587, 0.114])
"""What makes grey of red, green and blue, as PIL does (ITU-R BT.601)."""


def natural_images(count: int, size: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Returns random images with the statistics of photographs.

    An image depends on its place, on `size`, `channels` and `seed`, not on how many there are. Random numbers and
    shapes are the same on every machine. Spectra and colours are computed in float64, whose last digits depend on the
    machine: one pixel in about 1e11, so close to the middle between two integers, may be rounded to the other one.

    Args:
        count: how many, at least 1.
        size: height and width, at least 1.
        channels: 3 are red, green and blue; 1 is grey; more repeat red, green and blue.
        seed: at least 0.

    Returns:
        uint8 `(count, channels, size, size)`.

    Raises:
        ArgumentError: a number is too small.

    Example:
        >>> images = natural_images(2, 32)
        >>> images.shape, images.dtype
        (torch.Size([2, 3, 32, 32]), torch.uint8)
        >>> bool((natural_images(4, 32)[:2] == images).all())
        True
    """
    for name, value, least in (("count", count, 1), ("size", size, 1), ("channels", channels, 1), ("seed", seed, 0)):
        if value < least:
            raise ArgumentError(f"{name} is {value} for images made without data; expected {least} or more.")
    made = np.empty((count, channels, size, size), np.uint8)
    for index in range(count):
        rgb = _image(size, RandomStream(seed, index))
        made[index] = _pixels(np.tensordot(GREY, rgb, 1)[None] if channels == 1 else rgb[np.arange(channels) % 3])
    return torch.from_numpy(made)


def _image(size: int, stream: RandomStream) -> Floats:
    """Returns an image `(3, size, size)`: red, green and blue, about 0..1."""
    share, steepness, scale = stream.uniform(3)
    shift, (contrast, *_) = stream.normal(3), stream.normal(1)
    texture = one_over_f(size, EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * steepness, 3, stream)
    components = np.sqrt(share) * _leaves(size, scale, stream) + np.sqrt(1 - share) * texture
    components = WITHIN * np.exp(CONTRAST * contrast - CONTRAST**2) * components + BETWEEN * shift[:, None, None]
    return np.asarray(np.tensordot(AXES * DEVIATIONS, components, 1) + MEAN[:, None, None])


def _leaves(size: int, scale: float, stream: RandomStream) -> Floats:
    """Returns dead leaves, each of one value, `(3, size, size)` of deviation 1 over all images."""
    near, far = (min(max(radius, SMALLEST_PIXELS / size), LARGEST / 2) for radius in SMALLEST)
    labels, count = dead_leaves(size, near * (far / near) ** scale, stream)
    return stream.normal(3, count)[:, labels]


def _pixels(values: Floats) -> Floats:
    return np.floor(np.clip(values * 255, 0, 255) + 0.5)
