from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data.image_folder import open_folder
from qzoo.data.split import ArraySplit, sample, sample_digest
from qzoo.errors import DataError

IMAGES = torch.arange(20 * 3 * 4 * 4, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(20, 3, 4, 4)
SPLIT = ArraySplit("made", "train", IMAGES, torch.arange(20))


@given(st.integers(1, 20), st.integers(0, 2**63))
def test_a_sample_repeats_nothing_and_itself(images: int, seed: int) -> None:
    chosen = sample(SPLIT, images, seed)
    assert len(set(chosen)) == len(chosen) == images
    assert set(chosen) <= set(range(20))
    assert chosen == sample(SPLIT, images, seed)


@given(st.integers(1, 19))
def test_a_larger_sample_begins_with_the_smaller(images: int) -> None:
    assert sample(SPLIT, images + 1, seed=3)[:images] == sample(SPLIT, images, seed=3)


def test_a_sample_is_the_same_on_every_machine() -> None:
    assert sample(SPLIT, 6, seed=0) == [11, 3, 13, 2, 15, 1]
    assert sample(SPLIT, 6, seed=1) == [9, 16, 2, 18, 19, 14]


@pytest.mark.parametrize("images", [0, -1, 21])
def test_too_many_or_too_few(images: int) -> None:
    with pytest.raises(DataError, match=rf"{images} images are asked for, but made train holds 20\. Ask for 1 to 20"):
        sample(SPLIT, images, seed=0)


def test_a_digest_is_of_pixels_and_order() -> None:
    digest = sample_digest(SPLIT, [3, 1])
    assert digest == sample_digest(ArraySplit("other", "name", IMAGES.clone(), torch.zeros(20)), [3, 1])
    assert digest not in {sample_digest(SPLIT, [1, 3]), sample_digest(SPLIT, [3]), sample_digest(SPLIT, [3, 2])}
    changed = IMAGES.clone()
    changed[1, 2, 3, 3] += 1
    assert digest != sample_digest(ArraySplit("made", "train", changed, SPLIT.labels), [3, 1])


def test_a_digest_of_files_is_of_their_bytes(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    split = open_folder("mine", "val", image_folder(tmp_path / "a", {"val/ant": 3}))
    moved = open_folder("mine", "val", image_folder(tmp_path / "b", {"val/ant": 3}))
    assert sample_digest(split, [0, 2]) == sample_digest(moved, [0, 2])
    Path(moved.files[2]).write_bytes(Path(moved.files[2]).read_bytes() + b"\0")
    assert sample_digest(split, [0, 2]) != sample_digest(moved, [0, 2])


def test_a_batch_is_the_transformed_images_in_order() -> None:
    batch = SPLIT.batch([5, 0, 5], lambda x: x.float() / 255)
    assert torch.equal(batch, IMAGES[[5, 0, 5]].float() / 255)


def test_a_digest_tells_equal_images_at_other_places_apart() -> None:
    split = ArraySplit("made", "train", torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    assert sample_digest(split, [0]) != sample_digest(split, [1])
