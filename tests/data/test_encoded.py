from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qzoo.data.encoded import EncodedImages
from qzoo.errors import DataError

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


@pytest.fixture
def images(encode: Callable[..., bytes]) -> EncodedImages:
    return EncodedImages([encode(image) for image in PIXELS], (6, 4), "test.parquet")


@pytest.mark.parametrize("indices", [[0], [4, 0, 4, 2], [-1], []])
def test_is_indexed_like_a_tensor(images: EncodedImages, indices: list[int]) -> None:
    wanted = torch.tensor(indices, dtype=torch.int64)
    assert torch.equal(images[wanted], torch.from_numpy(PIXELS).permute(0, 3, 1, 2)[wanted])


def test_each_image_is_decoded_once(images: EncodedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    first = images[torch.tensor([1, 2])]
    monkeypatch.setattr(images, "_decode", pytest.fail)
    assert torch.equal(images[torch.tensor([2, 1])], first.flip(0))


@pytest.mark.parametrize("content", [b"", None, b"GIF89a", "truncated"])
def test_a_damaged_image_is_named(content: bytes | str | None, encode: Callable[..., bytes]) -> None:
    good = encode(PIXELS[0])
    broken = good[:-60] if content == "truncated" else content
    images = EncodedImages([good, broken], (6, 4), "test.parquet")
    with pytest.raises(DataError, match=r"Image 1 of test\.parquet is no image, or damaged .*fetch it again"):
        images[torch.tensor([0, 1])]
    assert images[torch.tensor([0])].shape == (1, 3, 6, 4)


def test_another_size_is_another_dataset(encode: Callable[..., bytes]) -> None:
    images = EncodedImages([encode(PIXELS[0])], (32, 32), "test.parquet")
    with pytest.raises(DataError, match=r"Image 0 of test\.parquet has 6x4 pixels, expected 32x32: .*--data"):
        images[torch.tensor([0])]
