from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Encodes an image of one colour, or of given pixels."""

    def encoded(pixels: Any = (10, 20, 30), size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
        is_array = isinstance(pixels, np.ndarray)
        buffer, image = io.BytesIO(), Image.fromarray(pixels) if is_array else Image.new("RGB", size, pixels)
        image.save(buffer, kind)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def parquet_file() -> Callable[..., Path]:
    """Writes a file in the layout of the hub's `datasets`."""

    def write(path: Path, images: Sequence[bytes | None], labels: Sequence[Any], image_column: str = "img") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = [{"bytes": image, "path": None} for image in images]
        column = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        parquet.write_table(pa.table({image_column: column, "label": labels}), path)
        return path

    return write


@pytest.fixture
def image_folder(encode: Callable[..., bytes]) -> Callable[..., Path]:
    """Makes a folder of classes with so many images each: `{"val/cat": 2}`."""

    def make(root: Path, classes: dict[str, int]) -> Path:
        for number, (name, count) in enumerate(classes.items()):
            (root / name).mkdir(parents=True)
            for n in range(count):
                (root / name / f"{n}.JPEG").write_bytes(encode((20 * number, 10 * n, 7), kind="JPEG"))
        return root

    return make
