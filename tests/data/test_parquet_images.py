from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from timm.data import ImageNetInfo

from qzoo.data import parquet_images
from qzoo.data.parquet_images import open_parquet, parquet_files
from qzoo.errors import DataError

Writer = Callable[..., Path]
WORDNET_IDS = list(ImageNetInfo().label_names())


def opened(root: Path) -> Any:
    return open_parquet("val", parquet_files(root, "val"))


@pytest.mark.parametrize("place", ["data", ".", "plain_text"])
def test_finds_the_files_where_the_hub_puts_them(place: str, tmp_path: Path) -> None:
    names = [f"validation-0000{n}-of-00002.parquet" for n in (1, 0)]
    (tmp_path / place).mkdir(exist_ok=True)
    for name in names:
        (tmp_path / place / name).touch()
    assert [file.name for file in parquet_files(tmp_path, "val")] == sorted(names)
    assert parquet_files(tmp_path, "train") == ()


@pytest.mark.parametrize(("names", "labels"), [
    ([], [0, 0, 281, 988, 988, 988]),
    (WORDNET_IDS[::-1], [999, 999, 718, 11, 11, 11]),
    ([f"{words}, and so on" for words in ImageNetInfo().label_descriptions()], [0, 0, 281, 988, 988, 988]),
], ids=["without names", "WordNet ids in another order", "words"])  # fmt: skip
def test_the_names_of_labels_decide(
    names: list[str], labels: list[int], imagenet_parquet: Writer, photographs: list[Path], tmp_path: Path
) -> None:
    assert opened(imagenet_parquet(tmp_path, photographs, names)).labels.tolist() == labels


@pytest.mark.parametrize(("names", "message"), [
    (["cat", "dog"], r"0-of-00002\.parquet calls its 2 labels 'cat, dog' \.\.\.: these are neither WordNet ids nor"),
    (list(ImageNetInfo().label_descriptions())[::-1], r"calls its 1,000 labels 'toilet.*' \.\.\.: these are neither"),
    (WORDNET_IDS[:100], r"0-of-00002\.parquet has the label 988; labels go from 0 to 99\. Expected the columns image"),
])  # fmt: skip
def test_other_datasets_are_refused(
    names: list[str], message: str, imagenet_parquet: Writer, photographs: list[Path], tmp_path: Path
) -> None:
    files = [file for file in photographs if file.parent.name != "n02123045"]
    imagenet_parquet(tmp_path, files, names)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


@pytest.mark.parametrize(("table", "message"), [
    ({"img": [{"bytes": b"x"}], "label": [0]}, r"is no parquet file of ImageNet-1k, .*image.*Expected the columns"),
    ({"image": ["a.JPEG"], "label": [0]}, r"is no parquet file of ImageNet-1k, or damaged"),
    ({"image": [{"bytes": b"x"}], "labels": [0]}, r"is no parquet file of ImageNet-1k, or damaged \(.*label"),
    ({"image": [{"bytes": b"x"}], "label": ["cat"]}, r"is no parquet file of ImageNet-1k, or damaged \(invalid lit"),
    ({"image": [{"bytes": b"x"}], "label": [-1]}, r"has the label -1; labels go from 0 to 999"),
    ({"image": pa.array([], pa.struct([("bytes", pa.binary())])), "label": pa.array([], pa.int64())}, r"holds no imag"),
])  # fmt: skip
def test_wrong_files(table: dict[str, Any], message: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(table), tmp_path / "validation-0.parquet")
    with pytest.raises(DataError, match=rf"validation-0\.parquet {message}"):
        opened(tmp_path)


def test_damage_names_its_file_and_image(imagenet_parquet: Writer, photographs: list[Path], tmp_path: Path) -> None:
    shard = imagenet_parquet(tmp_path, photographs) / "data" / "validation-00001-of-00002.parquet"
    cells = pa.array([{"bytes": b"x"}, {"bytes": None}, None], pa.struct([("bytes", pa.binary())]))
    parquet.write_table(pa.table({"image": cells, "label": [0, 0, 0]}), shard)
    split = opened(tmp_path)
    with pytest.raises(DataError, match=r"Image 0 of \S+00001-of-00002\.parquet is no image, or damaged"):
        split.image(3)
    for index in (4, 5):
        with pytest.raises(DataError, match=rf"Image {index - 3} of \S+ holds no bytes, only a path\. Expected the"):
            split.image(index)
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(DataError, match=r"00001-of-00002\.parquet is no parquet file of ImageNet-1k, or damaged"):
        opened(tmp_path)


def test_one_row_group_is_held_and_each_is_read_once_a_batch(
    imagenet_parquet: Writer, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, read = opened(imagenet_parquet(tmp_path, photographs)), []
    original = parquet_images._read_images
    monkeypatch.setattr(parquet_images, "_read_images", lambda *at: read.append(at) or original(*at))
    split.batch([5, 0, 4, 1, 2, 3], lambda image: parquet_images.torch.zeros(1))
    assert [group for _, group in read] == [0, 1, 0, 1]
    assert len(split.images._held) <= 2
