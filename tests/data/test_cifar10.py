from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from qzoo.data.cifar10 import open_cifar10
from qzoo.data.lookup import open_split
from qzoo.errors import DataError


def pixels(split: Any, index: int) -> torch.Tensor:
    return split.images[torch.tensor([index])][0]


def test_reads_shards_in_order(tmp_path: Path, parquet_file: Callable[..., Path], encode: Callable[..., bytes]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    parquet_file(tmp_path / "data/test-00001-of-00002.parquet", [encode(images[2], kind="WebP")], [9])
    parquet_file(tmp_path / "data/test-00000-of-00002.parquet", [encode(i) for i in images[:2]], [3, 4])
    split = open_cifar10("test", tmp_path)
    assert split.labels.tolist() == [3, 4, 9]
    assert torch.equal(pixels(split, 1), torch.from_numpy(images[1]).permute(2, 0, 1))
    assert not split.complete


@pytest.mark.parametrize("place", ["data", ".", "plain_text"])
def test_finds_the_files_where_the_hub_puts_them(
    place: str, tmp_path: Path, parquet_file: Callable[..., Path], encode: Callable[..., bytes]
) -> None:
    parquet_file(tmp_path / place / "train-0.parquet", [encode()], [0])
    assert len(open_cifar10("train", tmp_path)) == 1
    with pytest.raises(DataError, match=r"holds no CIFAR-10 test split\. Expected data/\{train,test\}-\*\.parquet"):
        open_cifar10("test", tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nothing\. .*--data"):
        open_split("cifar10", "test", tmp_path / "nothing")


@pytest.mark.parametrize(("images", "labels", "message"), [
    ([], [], r"holds no images"),
    ([b"x"], [10], r"has the label 10, CIFAR-10 has 0 to 9"),
    ([b"x", b"x"], [0, -1], r"has the label -1"),
    ([b"x"], ["cat"], r"is no CIFAR-10 parquet file, or damaged \(invalid literal"),
    ([b"x"], [None], r"is no CIFAR-10 parquet file, or damaged \(int\(\) argument"),
])  # fmt: skip
def test_wrong_content(
    images: list[bytes], labels: list[Any], message: str, tmp_path: Path, parquet_file: Callable[..., Path]
) -> None:
    parquet_file(tmp_path / "data/test-0.parquet", images, labels)
    with pytest.raises(DataError, match=rf"test-0\.parquet {message}"):
        open_cifar10("test", tmp_path)


def test_another_dataset_of_the_hub(tmp_path: Path, parquet_file: Callable[..., Path]) -> None:
    parquet_file(tmp_path / "data/test-0.parquet", [b"x"], [0], image_column="image")
    with pytest.raises(DataError, match=r"is no CIFAR-10 parquet file.*img.* in image: struct[^\n]*uoft-cs/cifar10"):
        open_cifar10("test", tmp_path)


def test_the_damaged_shard_is_named(
    tmp_path: Path, parquet_file: Callable[..., Path], encode: Callable[..., bytes]
) -> None:
    parquet_file(tmp_path / "data/test-0.parquet", [encode()], [0])
    second = parquet_file(tmp_path / "data/test-1.parquet", [encode()], [0])
    second.write_bytes(second.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"test-1\.parquet is no CIFAR-10 parquet file, or damaged"):
        open_cifar10("test", tmp_path)


@pytest.fixture
def batch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's layout, ten images a file, with checksums to match."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> tuple[str, str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    made = [
        write(name, {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))})
        for name in names
    ]
    meta, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    dataset = torchvision.datasets.CIFAR10
    monkeypatch.setattr(dataset, "train_list", made[:5])
    monkeypatch.setattr(dataset, "test_list", made[5:])
    monkeypatch.setattr(dataset, "meta", {"filename": meta, "key": "label_names", "md5": md5})
    return folder


@pytest.mark.parametrize("inside", [True, False])
def test_reads_torchvisions_files(batch_files: Path, inside: bool) -> None:
    folder = batch_files if inside else batch_files.parent
    split = open_cifar10("test", folder)
    raw = pickle.loads((batch_files / "test_batch").read_bytes())["data"]
    assert torch.equal(pixels(split, 3), torch.from_numpy(raw[3].reshape(3, 32, 32)))
    assert split.labels.tolist() == list(range(10))
    assert len(open_cifar10("train", folder)) == 50


def test_torchvisions_files_are_checked_before_they_are_unpickled(batch_files: Path) -> None:
    (batch_files / "test_batch").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(DataError, match=r"torchvision can't read .*cifar-10-batches-py .*not found or corrupted"):
        open_cifar10("test", batch_files)


def test_the_real_one(data_root: Path) -> None:
    split = open_split("cifar10", "test", data_root)
    assert (len(split), split.complete) == (10_000, True)
    assert split.labels.bincount().tolist() == [1000] * 10
    assert split.content(0) == open_split("cifar10", "test", data_root / "cifar10").content(0)


def test_a_file_that_was_written_again_is_read_again(
    tmp_path: Path, parquet_file: Callable[..., Path], encode: Callable[..., bytes]
) -> None:
    for labels in ([0], [1, 2], [3]):
        parquet_file(tmp_path / "data/test-0.parquet", [encode()] * len(labels), labels)
        assert open_cifar10("test", tmp_path).labels.tolist() == labels
