from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from timm.data import ImageNetInfo


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


@pytest.fixture(scope="session")
def photographs(data_root: Path) -> list[Path]:
    """Six real validation images of ImageNet, of three classes, by class and name."""
    val = data_root / "imagenet-mini" / "val"
    return [file for name in ("n01440764", "n02123045", "n12267677") for file in sorted((val / name).iterdir())[:3]]


@pytest.fixture
def flat_folder(photographs: list[Path], tmp_path: Path) -> Path:
    """A folder that holds the photographs in val/, without class folders and without labels."""
    (tmp_path / "flat" / "val").mkdir(parents=True)
    for file in photographs:
        shutil.copyfile(file, tmp_path / "flat" / "val" / file.name)
    return tmp_path / "flat"


@pytest.fixture
def imagenet_parquet() -> Callable[..., Path]:
    """Writes images as the hub dataset has them: two shards, two images a row group, the labels' names beside."""

    def write(root: Path, files: Sequence[Path], names: Sequence[str] | None = None, split: str = "validation") -> Path:
        (root / "data").mkdir(parents=True)
        words = list(ImageNetInfo().label_descriptions()) if names is None else list(names)
        features = {"image": {"_type": "Image"}, "label": {"names": words, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})} if words else None
        synsets = ImageNetInfo().label_names()
        for shard, part in enumerate((files[:3], files[3:])):
            cells = [{"bytes": file.read_bytes(), "path": file.name} for file in part]
            column = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
            labels = pa.array([synsets.index(file.parent.name) for file in part], pa.int64())
            table = pa.table({"image": column, "label": labels}).replace_schema_metadata(metadata)
            parquet.write_table(table, root / "data" / f"{split}-{shard:05}-of-00002.parquet", row_group_size=2)
        return root

    return write
