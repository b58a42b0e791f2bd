from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qzoo.data.decoding import decode_rgb
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
