from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from qzoo.data.image_folder import open_folder
from qzoo.data.lookup import open_split
from qzoo.data.synsets import imagenet_synsets
from qzoo.errors import DataError

Maker = Callable[..., Path]
TENCH, FISH, LAST = "n01440764", "n01443537", "n15075141"


def test_the_wordnet_list_is_imagenets() -> None:
    synsets = imagenet_synsets()
    assert len(synsets) == 1000
    assert [synsets[name] for name in (TENCH, FISH, LAST)] == [0, 1, 999]
    assert list(synsets) == sorted(synsets)


@pytest.mark.parametrize("dataset", ["imagenet-1k", "somewhere/imagenet-mini"])
def test_a_class_of_imagenet_is_its_wordnet_id_not_its_place(dataset: str, tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {f"val/{LAST}": 2, f"val/{FISH}": 1})
    split = open_folder(dataset, "val", tmp_path)
    assert split.labels.tolist() == [1, 999, 999]
    assert len(split.classes) == 1000
    assert not split.complete


def test_other_folders_count_the_classes_of_all_splits(tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {"train/ant": 1, "train/bee": 1, "train/cat": 1, "val/cat": 1})
    for data in (tmp_path, tmp_path / "val"):
        split = open_folder("mine", "val", data)
        assert split.labels.tolist() == [2]
        assert split.classes == ["ant", "bee", "cat"]
        assert split.complete


@pytest.mark.parametrize(("on_disk", "asked", "name"), [
    ("val", "val", "val"), ("validation", "val", "val"), ("test", "val", "val"), ("train", "train", "train"),
    ("test", "test", "val"), ("validation", "test", "val"),
])  # fmt: skip
def test_names_of_splits(on_disk: str, asked: str, name: str, tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {f"{on_disk}/ant": 1})
    split = open_folder("mine", asked, tmp_path)
    assert (split.name, len(split)) == (name, 1)


def test_test_and_val_side_by_side_are_two_splits(tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {"test/ant": 1, "val/ant": 2})
    assert [(s.name, len(s)) for s in (open_folder("mine", n, tmp_path) for n in ("test", "val"))] == [
        ("test", 1), ("val", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("asked", ["val", "train"])
def test_a_folder_without_splits_is_what_accuracy_is_measured_on(
    asked: str, tmp_path: Path, image_folder: Maker
) -> None:
    assert open_folder("mine", asked, image_folder(tmp_path, {"ant": 1})).name == "val"


def test_a_train_folder_itself_is_the_train_split(tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {"train/ant": 1})
    assert open_folder("mine", "train", tmp_path / "train").name == "train"
    with pytest.raises(DataError, match=r"has no folder val: it is a train split itself\. Give the folder that holds"):
        open_folder("mine", "val", tmp_path / "train")


def test_hidden_and_foreign_files_are_left_out(tmp_path: Path, image_folder: Maker) -> None:
    image_folder(tmp_path, {"val/ant": 1, "val/.cache": 1})
    (tmp_path / "val/ant/._0.JPEG").write_bytes(b"of a Mac")
    (tmp_path / "val/ant/notes.txt").write_text("none")
    assert len(open_folder("mine", "val", tmp_path)) == 1


@pytest.mark.parametrize(("classes", "dataset", "message"), [
    ({"train/ant": 1}, "mine", r"has no folder val: it has train\. Give the folder that holds both"),
    ({"val/ant": 0}, "mine", r"val holds no images in class folders \(expected .*Give the folder of mine with --data"),
    ({"val": 3}, "mine", r"val holds no images in class folders"),
    ({f"val/{TENCH}": 1, "val/ant": 1}, "imagenet-1k", r"is no ImageNet-1k folder: 'ant' is not one of the 1,000"),
    ({"val/n00000000": 1}, "imagenet-1k", r"'n00000000' is not one of the 1,000 WordNet ids"),
])  # fmt: skip
def test_wrong_folders(
    classes: dict[str, int], dataset: str, message: str, tmp_path: Path, image_folder: Maker
) -> None:
    with pytest.raises(DataError, match=message):
        open_folder(dataset, "val", image_folder(tmp_path, classes))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nothing\. Give the folder of the dataset with --data"):
        open_folder("mine", "val", tmp_path / "nothing")


def test_a_damaged_image_is_named_when_it_is_asked_for(tmp_path: Path, image_folder: Maker) -> None:
    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 2}))
    path = tmp_path / "val/ant/1.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    assert split.image(0).mode == "RGB"
    with pytest.raises(DataError, match=r"ant/1\.JPEG is no image, or damaged"):
        split.image(1)


@pytest.mark.parametrize("by", ["name", "path", "data"])
def test_the_real_imagenet_mini(by: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_DATA", str(data_root))
    folder = data_root / "imagenet-mini"
    dataset, data = {"name": ("imagenet-mini", None), "path": (str(folder), None), "data": ("imagenet-1k", folder)}[by]
    split = open_split(dataset, "val", data)
    assert (len(split), len(split.labels.unique()), split.complete) == (1300, 725, False)
    synsets = list(imagenet_synsets())
    assert all(Path(file).parent.name == synsets[label] for file, label in zip(split.files, split.labels, strict=True))
    assert isinstance(split.image(0), Image.Image)
