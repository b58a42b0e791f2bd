from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from timm.data import ImageNetInfo

from qzoo.data.lookup import open_split
from qzoo.errors import DataError


def pretend(monkeypatch: pytest.MonkeyPatch, load_dataset: Any) -> None:
    library = SimpleNamespace(load_dataset=load_dataset, Image=lambda decode: {"decode": decode})
    monkeypatch.setitem(sys.modules, "datasets", load_dataset and library)


def test_without_the_library_the_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, None)
    with pytest.raises(DataError, match=r"No data for cifar10: QZOO_DATA is not set.*`hf download uoft-cs/cifar10"):
        open_split("cifar10", "test")


class NetworkError(Exception):
    """Of a client that derives its errors from nothing else, as httpx does."""


@pytest.mark.parametrize("error", [ConnectionError, ValueError, NetworkError])
def test_without_a_network_the_reason_is_given(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str) -> None:
        raise error("no route to host")

    pretend(monkeypatch, load)
    with pytest.raises(DataError, match=r"uoft-cs/cifar10 can't be loaded \(no route to host\)\. .*--data FOLDER"):
        open_split("cifar10", "test")


def test_images_become_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image.new("RGB", (32, 32), (1, 2, 3)), Image.new("L", (32, 32), 9)]
    pretend(monkeypatch, lambda name, split: {"img": images, "label": [4, 5]})
    split = open_split("cifar10", "test")
    assert split.images[:, :, 0, 0].tolist() == [[1, 2, 3], [9, 9, 9]]
    assert split.labels.tolist() == [4, 5]
    assert not split.complete


class Gated:
    """What the library gives of the gated dataset: rows whose images are decoded until a cast says otherwise."""

    def __init__(self, files: list[Path], names: list[str]) -> None:
        self.files, self.decode = files, True
        self.features = {"label": SimpleNamespace(names=names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: str | int) -> Any:
        if key == "label":
            return [ImageNetInfo().label_names().index(file.parent.name) for file in self.files]
        return {"image": {"bytes": self.files[int(key)].read_bytes(), "path": None}} if not self.decode else None

    def cast_column(self, column: str, feature: dict[str, bool]) -> Gated:
        assert column == "image"
        self.decode = feature["decode"]
        return self


@pytest.mark.parametrize(("split", "name"), [("val", "validation"), ("train", "train")])
def test_the_gated_dataset(split: str, name: str, photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*names: str, **options: Any) -> Gated:
        asked.append((*names, options))
        return Gated(photographs, list(ImageNetInfo().label_descriptions()))

    pretend(monkeypatch, load)
    opened: Any = open_split("imagenet-1k", split)
    (repository, options) = asked[0]
    assert (repository, options["split"]) == ("ILSVRC/imagenet-1k", name)
    assert options["data_files"] == {name: f"data/{name}-*.parquet"}, "the other split would be downloaded, too"
    assert opened.labels.tolist() == [0, 0, 281, 988, 988, 988]
    assert opened.content(1) == photographs[1].read_bytes()
    assert (opened.name, opened.complete, opened.image(0).mode) == (split, False, "RGB")


def test_terms_that_are_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **options: Any) -> None:
        raise ValueError(f"Dataset '{name}' is a gated dataset on the Hub.")

    pretend(monkeypatch, load)
    reason = r"ILSVRC/imagenet-1k can't be loaded \(.*gated dataset on the Hub.*accept the terms on the page"
    with pytest.raises(DataError, match=rf"{reason} .*`hf auth login` \(or set HF_TOKEN\).*Kaggle: give --data FOLDER"):
        open_split("imagenet-1k", "val")


def test_labels_of_another_dataset(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda *_, **__: Gated(photographs, ["cat", "dog"]))
    with pytest.raises(DataError, match=r"The hub dataset ILSVRC/imagenet-1k calls its 2 labels 'cat, dog'"):
        open_split("imagenet-1k", "val")


def test_a_damaged_image_of_the_hub(photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "n01440764").mkdir()
    (tmp_path / "n01440764" / "a.JPEG").write_bytes(b"x")
    files = [*photographs, tmp_path / "n01440764" / "a.JPEG"]
    pretend(monkeypatch, lambda *_, **__: Gated(files, list(ImageNetInfo().label_descriptions())))
    opened: Any = open_split("imagenet-1k", "val")
    with pytest.raises(DataError, match=r"Image 6 of the hub dataset ILSVRC/imagenet-1k is no image, or damaged"):
        opened.image(6)
