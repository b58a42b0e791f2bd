from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qzoo.data.encoded import EncodedImages, decode_rgb
from qzoo.errors import DataError


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1"])
def test_any_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tiff"
    Image.new(mode, (5, 4)).save(path)
    image = decode_rgb(str(path), "image.tiff")
    assert (image.mode, image.size) == ("RGB", (5, 4))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "BMP", "PPM", "TIFF"])
@pytest.mark.filterwarnings("ignore")
@given(st.data())
def test_damage_is_one_kind_of_error(kind: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((8, 8)).convert("RGB").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] ^= data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    # Damage may go unnoticed; what must not happen is an error of another kind.
    with contextlib.suppress(DataError):
        assert decode_rgb(io.BytesIO(bytes(content)), "It").mode == "RGB"


def test_a_missing_file_is_named(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    with pytest.raises(DataError, match=r"x\.png is no image, or damaged \(.*No such file.*Remove it or fetch it"):
        decode_rgb(str(tmp_path / "x.png"), "x.png")


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
