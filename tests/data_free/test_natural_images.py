"""Statistics of images made without data, their seeds and their bad input."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data_free.natural_images import natural_images
from qzoo.errors import ArgumentError
from tests.each import for_each

# Of ImageNet's pixels in 0..1: eigenvalues and eigenvectors of the covariance.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
KNOWN = "d6674ac6f82c30add0bd05b2a16201cdc003fa3f235aac740de27fdba35f740f"
"""SHA-256 of images that were made once."""


@given(count=st.integers(1, 4), more=st.integers(1, 4), size=st.integers(1, 20), seed=st.integers(0, 2**40))
def test_an_image_does_not_depend_on_how_many_there_are(count: int, more: int, size: int, seed: int) -> None:
    assert torch.equal(natural_images(count + more, size, seed=seed)[:count], natural_images(count, size, seed=seed))


@given(size=st.integers(1, 17), channels=st.integers(1, 7))
def test_shape_and_dtype(size: int, channels: int) -> None:
    images = natural_images(2, size, channels)
    assert images.shape == (2, channels, size, size)
    assert images.dtype == torch.uint8


def test_seeds_and_places_give_other_images() -> None:
    images = torch.cat([natural_images(3, 16, seed=seed) for seed in range(3)])
    assert len({image.numpy().tobytes() for image in images}) == 9


def test_the_images_are_the_same_for_ever() -> None:
    made = natural_images(4, 32).numpy().tobytes() + natural_images(2, 33, 1, seed=7).numpy().tobytes()
    assert hashlib.sha256(made).hexdigest() == KNOWN


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Of 300 images, in 0..1, `(300, 3, pixels)`."""
    return natural_images(300, 32, seed=5).numpy().reshape(300, 3, -1) / 255


def test_colours_are_those_of_photographs(pixels: np.ndarray) -> None:
    mean, covariance = pixels.mean((0, 2)), np.cov(pixels.transpose(1, 0, 2).reshape(3, -1))
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(mean, [0.485, 0.456, 0.406], atol=0.04)
    # Clipped to black and white, they vary less.
    assert np.all((values[::-1] / EIGENVALUES > 0.6) & (values[::-1] / EIGENVALUES < 1.3))
    aligned = np.abs(np.sum(vectors[:, ::-1] * np.array(EIGENVECTORS), axis=0))
    assert np.all(aligned > 0.9)


def test_deviation_within_images_is_what_normalizes_them(pixels: np.ndarray) -> None:
    np.testing.assert_allclose(pixels.std(2).mean(0), [0.229, 0.224, 0.225], atol=0.04)


def test_brightness_and_contrast_vary(pixels: np.ndarray) -> None:
    assert pixels.mean((1, 2)).std() > 0.1
    assert pixels.std(2).std() > 0.05


def test_the_spectrum_falls_as_in_photographs() -> None:
    grey = natural_images(64, 64, 1).numpy()[:, 0] / 255
    power = (np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2).mean(0)
    at = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    fitted = (at > 0) & (at < 0.4)
    assert -np.polyfit(np.log(at[fitted]), np.log(power[fitted]), 1)[0] / 2 == pytest.approx(1.1, abs=0.25)


def test_grey_is_of_red_green_and_blue_and_more_channels_repeat_them() -> None:
    five = natural_images(2, 8, 5)
    assert torch.equal(five[:, :3], natural_images(2, 8))
    assert torch.equal(five[:, 3:], five[:, :2])
    inside = (five[:, :3] > 0) & (five[:, :3] < 255)
    luma = (five[:, :3] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    difference = (natural_images(2, 8, 1)[:, 0] - luma).abs()
    assert float(difference[inside.all(1)].max()) < 1.5


@for_each(
    "arguments, said",
    [
        ((0, 8), "count is 0"),
        ((1, 0), "size is 0"),
        ((1, 8, 0), "channels is 0"),
        ((1, 8, 3, -1), "seed is -1 for images made without data; expected 0 or more."),
    ],
)
def test_numbers_that_are_too_small(arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        natural_images(*arguments)
