"""Small pictures of images of any kind, and names of classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qzoo.data import ArraySplit
from qzoo.data.own_datasets import PairSplit
from qzoo.data.split import FileSplit
from qzoo.data.thumbnails import SIDE, class_title, thumbnail

LABELS = torch.zeros(1, dtype=torch.int64)


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture))


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pixels[0, 0, :, 4:] = 255
    picture = opened(thumbnail(ArraySplit("a", "test", pixels, LABELS), 0))
    assert picture.size == (112, 112)
    values = np.asarray(picture.convert("L"))
    assert values[:, :54].max() < 20
    assert values[:, 58:].min() > 235


def test_large_ones_show_their_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 200), "black")
    image.paste("white", (100, 0, 300, 200))
    image.save(tmp_path / "a.png")
    picture = opened(thumbnail(FileSplit("a", "val", [str(tmp_path / "a.png")], LABELS), 0))
    assert picture.size == (SIDE, SIDE)
    assert np.asarray(picture.convert("L"))[:, 4:-4].min() > 235


def test_a_photograph_takes_a_few_kilobytes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((500, 400), Image.Resampling.BICUBIC)
    assert len(thumbnail(PairSplit("a", "val", [(photo, 0)]), 0)) < 8_000


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    assert thumbnail(PairSplit("a", "val", [(torch.zeros(3, 8, 8), 0)]), 0) == b""
    (tmp_path / "a.png").write_text("none")
    assert thumbnail(FileSplit("a", "val", [str(tmp_path / "a.png")], LABELS), 0) == b""


def test_class_titles() -> None:
    assert class_title(("n01440764", "n01443537"), 1) == "goldfish"
    assert class_title(("n99999999",), 0) == "n99999999"
    assert class_title((), 3) == "class 3"
