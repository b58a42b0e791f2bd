"""Images without labels: a flat folder, folders of them, the evaluation split of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qzoo.data.unlabelled import open_unlabelled
from qzoo.errors import DataError


def flat(folder: Path, encode: Callable[..., bytes], count: int = 3) -> Path:
    folder.mkdir(parents=True)
    for n in range(count):
        (folder / f"{n}.png").write_bytes(encode((n, n, n)))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_a_flat_folder_for_any_dataset(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    folder = flat(tmp_path / "photos", encode)
    for dataset in ("imagenet-1k", "cifar10", "digits", "my_own"):
        split = open_unlabelled(dataset, folder)
        assert (split.dataset, len(split), len(split.labels)) == ("photos", 3, 3)
        assert split.image(1).getpixel((0, 0)) == (1, 1, 1)  # type: ignore[attr-defined]


def test_a_flat_evaluation_split_and_not_the_train_split_beside_it(
    tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    flat(tmp_path / "train", encode, 5)
    flat(tmp_path / "val", encode, 2)
    assert len(open_unlabelled("imagenet-1k", tmp_path)) == 2


def test_folders_of_images_that_are_no_classes(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(tmp_path, {"camera1": 2, "camera2": 3})
    for dataset in ("imagenet-1k", "my_own"):
        assert len(open_unlabelled(dataset, folder)) == 5


def test_the_evaluation_split_of_a_dataset(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(tmp_path, {"train/n01440764": 4, "val/n01440764": 2})
    split = open_unlabelled("imagenet-1k", folder)
    assert (split.name, len(split)) == ("val", 2)
    assert open_unlabelled("digits", tmp_path).name == open_unlabelled("digits").name == "test"


def test_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .*nowhere. Give a folder of images with --data, or that"):
        open_unlabelled("imagenet-1k", tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"holds no images .* Or give any folder of image files: their labels are not"):
        open_unlabelled("imagenet-1k", tmp_path)
