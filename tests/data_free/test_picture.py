"""Pictures of images: where each lies, and how large the file gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qzoo.data_free.picture import GAP, MOST_BYTES, grid, write_grid
from qzoo.errors import ArgumentError
from tests.each import for_each


@given(count=st.integers(1, 9), columns=st.integers(1, 5), channels=st.integers(1, 5), size=st.integers(1, 6))
def test_each_image_lies_in_its_row_and_column(count: int, columns: int, channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(1, 256, (count, channels, size, size), generator=generator).to(torch.uint8)
    sheet = grid(images, columns).numpy()
    for place, image in enumerate(images.numpy()):
        top, left = (part * (size + GAP) for part in divmod(place, min(columns, count)))
        shown = image[:3] if channels >= 3 else np.repeat(image[:1], 3, 0)
        np.testing.assert_array_equal(sheet[top : top + size, left : left + size], shown.transpose(1, 2, 0))
    assert np.count_nonzero(sheet.any(2)) == count * size * size


def test_a_small_picture_is_kept_as_it_is(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    write_grid(tmp_path / "new" / "grid.png", images)
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid(images, 8).numpy())


def test_a_large_picture_is_made_to_fit(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (70, 3, 96, 96), dtype=torch.uint8)
    write_grid(tmp_path / "grid.png", images)
    assert MOST_BYTES / 3 < (tmp_path / "grid.png").stat().st_size <= MOST_BYTES
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width == picture.height  # 8 by 8, of 70 the first 64
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@for_each(
    "images, said",
    [
        (torch.zeros(1, 3, 4, 4), r"float32 \(1, 3, 4, 4\); expected uint8 \(N, C, H, W\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"uint8 \(3, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), "of at least one pixel"),
    ],
)
def test_what_are_no_images(images: torch.Tensor, said: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=said):
        write_grid(tmp_path / "grid.png", images)
    assert not list(tmp_path.iterdir())
