from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data import Augmentation, loader, open_split, train_transform
from qzoo.data.augmentation import image_seed
from qzoo.data.image_folder import open_folder

DIGITS = train_transform("digits", size=8, mean=(0.5,), std=(0.5,), seed=7)


def pixels(batch_size: int, workers: int = 0, transform: Augmentation = DIGITS) -> torch.Tensor:
    split = open_split("digits", "train")
    return torch.cat([x for x, _ in loader(split, transform, batch_size, [5, 900, 5, 31, 2], workers)])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (5, 2), (2, 2)])
def test_pixels_depend_on_neither_batch_size_nor_workers(batch_size: int, workers: int) -> None:
    assert torch.equal(pixels(batch_size, workers), pixels(5))


def test_pixels_depend_on_the_image_and_the_seed() -> None:
    same, other = pixels(5), pixels(5, transform=Augmentation(DIGITS.transform, seed=8))
    assert torch.equal(same[0], same[2])
    assert not torch.equal(same, other)


def test_pixels_depend_on_no_global_dice() -> None:
    torch.manual_seed(1)
    first = pixels(2)
    torch.manual_seed(2)
    assert torch.equal(pixels(2), first)


@pytest.mark.parametrize("workers", [0, 2])
def test_global_dice_stay_where_they_were(workers: int) -> None:
    before = torch.get_rng_state()
    pixels(2, workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_global_dice_stay_where_they_were_after_an_error() -> None:
    def fails(image: object) -> torch.Tensor:
        torch.rand(1)
        raise ValueError("no such image")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="no such image"):
        Augmentation(fails)(None, 0)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_neighbours_have_seeds_of_their_own(seed: int, index: int) -> None:
    seeds = {image_seed(seed, index), image_seed(seed + 1, index), image_seed(seed, index + 1)}
    assert len(seeds) == 3
    assert all(0 <= value < 2**63 for value in seeds)


def test_digits_are_shifted_by_a_pixel_at_most() -> None:
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[0, 4, 4] = 255
    places = {tuple((DIGITS(image, n)[0] > 0).nonzero()[0].tolist()) for n in range(200)}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}


def test_cifar_is_shifted_by_four_and_mirrored() -> None:
    transform = train_transform("cifar10", size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, 10, 10] = 255
    rows, columns = zip(*((transform(image, n)[0] > 0).nonzero()[0].tolist() for n in range(400)), strict=True)
    assert set(rows) == set(range(6, 15))
    assert set(columns) == set(range(6, 15)) | set(range(17, 26))


def test_pixels_are_normalized() -> None:
    image = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    assert float(train_transform("digits", size=8, mean=(0.25,), std=(0.5,))(image, 0).max()) == 1.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photographs_are_cropped_and_resized(
    interpolation: str, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 2}))
    transform = train_transform("mine", size=24, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation=interpolation, seed=1)
    batch = split.batch([1, 0], transform)
    assert (batch.shape, batch.dtype, type(batch)) == ((2, 3, 24, 24), torch.float32, torch.Tensor)
    assert torch.equal(batch, torch.cat([split.batch([1], transform), split.batch([0], transform)]))
