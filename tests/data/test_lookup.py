from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import qzoo
from qzoo.data.lookup import evaluation_split, open_split, reader_of
from qzoo.errors import DataError, QzooError, UnknownNameError
from qzoo.schema.datasets import DATASETS


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_evaluated_on_one_of_its_splits_and_has_a_reader(name: str) -> None:
    dataset = DATASETS[name]
    assert evaluation_split(name) in dataset.splits
    assert set(dataset.hub_splits) <= set(dataset.splits)
    assert callable(reader_of(dataset).read)
    assert reader_of(dataset).moves(8, "bilinear")


def test_no_other_file_asks_which_dataset_it_is() -> None:
    package = Path(qzoo.__file__).parent
    files = {path: path.read_text() for path in package.rglob("*.py") if path.name != "datasets.py"}
    asked = re.compile(rf"[!=]= *[\"']({'|'.join(DATASETS)})[\"']|[\"']({'|'.join(DATASETS)})[\"'] *:")
    assert [str(path) for path, text in files.items() if asked.search(text)] == []


def test_a_folder_is_evaluated_on_val() -> None:
    assert evaluation_split("some/folder") == "val"


@pytest.mark.parametrize(("dataset", "split", "kind", "message"), [
    ("cifar-10", "test", UnknownNameError, r"'cifar-10'\. Did you mean 'cifar10'\? Known: .* inside QZOO_DATA"),
    ("digits", "val", UnknownNameError, r"digits has no split 'val'\. .*Known: test, train"),
    ("imagenet-1k", "test", UnknownNameError, r"imagenet-1k has no split 'test'\. .*Known: train, val"),
    ("imagenet-1k", "val", DataError, r"No data for imagenet-1k.*`hf auth login`.*HF_TOKEN.*--data FOLDER"),
    ("no/such/folder", "val", DataError, r"no folder no/such/folder\. Give"),
])  # fmt: skip
def test_unknown_names_are_answered(dataset: str, split: str, kind: type[QzooError], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_split(dataset, split)


def test_digits_need_no_folder_even_where_one_is_named(tmp_path: Path) -> None:
    assert len(open_split("digits", "test", tmp_path / "nothing")) == 597


@pytest.mark.parametrize("inside", [True, False], ids=["a folder of datasets", "the dataset's folder"])
@pytest.mark.parametrize("by_variable", [True, False])
def test_data_may_name_the_dataset_or_what_holds_it(
    inside: bool, by_variable: bool, tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path, {"imagenet-1k/val/n15075141": 1})
    data = tmp_path if inside else tmp_path / "imagenet-1k"
    if by_variable:
        monkeypatch.setenv("QZOO_DATA", str(data))
    split = open_split("imagenet-1k", "val", None if by_variable else data)
    assert split.labels.tolist() == [999]


def test_the_flag_beats_the_variable(
    tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path, {"a/mine/val/ant": 1, "b/mine/val/ant": 2})
    monkeypatch.setenv("QZOO_DATA", str(tmp_path / "a"))
    assert len(open_split("mine", "val")) == 1
    assert len(open_split("mine", "val", tmp_path / "b")) == 2


def test_a_missing_data_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*typo\. Give the folder of imagenet-1k with --data"):
        open_split("imagenet-1k", "val", tmp_path / "typo")
