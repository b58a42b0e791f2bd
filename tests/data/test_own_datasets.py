from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import qzoo
from qzoo.data import lookup, open_split
from qzoo.data.own_datasets import register_dataset
from qzoo.environment import packaged
from qzoo.errors import ArgumentError, DataError, UnknownNameError
from qzoo.models import own_models
from qzoo.models.architectures.resnet_digits import DigitsResNet
from qzoo.schema import datasets
from tests.each import for_each

UINT8 = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
FLOAT = torch.zeros(1, 8, 8)


@pytest.fixture(autouse=True)
def _none_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for home, name in ((datasets, "OWN_DATASETS"), (lookup, "_own_readers"), (own_models, "_registered")):
        monkeypatch.setattr(home, name, {})
    monkeypatch.setattr(lookup, "OWN_DATASETS", datasets.OWN_DATASETS)
    monkeypatch.setattr("qzoo.data.own_datasets.OWN_DATASETS", datasets.OWN_DATASETS)


class Targets(list[Any]):
    """A dataset that says its labels without being read."""

    targets = (2, 0)


@for_each(("pairs", "labels"), [
    ([(UINT8, 0), [UINT8, 3]], [0, 3]),
    ([{"img": UINT8, "label": 1}, {"image": UINT8, "label": 2}], [1, 2]),
    (TensorDataset(UINT8[None], torch.tensor([4])), [4]),
    (Targets([(UINT8, 9), (UINT8, 9)]), [2, 0]),
    ([(Image.new("L", (8, 8)), 1)], [1]),
])  # fmt: skip
def test_whatever_gives_an_image_and_a_label_is_a_split(pairs: Any, labels: list[int]) -> None:
    register_dataset("mine", {"val": pairs}, replace=True)
    split = open_split("mine", "val")
    assert split.labels.tolist() == labels
    assert len(split.content(0)) == 64
    batch = split.batch(range(len(pairs)), qzoo.transform("resnet8_digits"))
    assert batch.shape == (len(pairs), 1, 8, 8)
    assert batch.dtype is torch.float32


def test_float_tensors_are_taken_as_they_are() -> None:
    register_dataset("mine", {"val": [(FLOAT + 7, 0)]})
    assert open_split("mine", "val").batch([0], lambda _: pytest.fail("transformed")).unique().tolist() == [7]


def test_a_recipe_names_it(tmp_path: Any) -> None:
    digits = {name: open_split("digits", name) for name in ("train", "test")}
    pairs = {name: [(one.images[n], int(one.labels[n])) for n in range(60)] for name, one in digits.items()}  # type: ignore[attr-defined]
    register_dataset("mine", {"train": pairs["train"], "val": pairs["test"]})
    weights = packaged("digits/resnet8_digits.safetensors")
    qzoo.register_model("net", DigitsResNet, transform=qzoo.transform("resnet8_digits"), weights=weights)
    (tmp_path / "net.yaml").write_text(
        "{base: {source: python, architecture: net}, dataset: mine, calibration: {images: 60}, variants: {int8: {}}}"
    )
    settings = qzoo.Settings(workers=0)
    report = qzoo.reproduce(str(tmp_path / "net.yaml"), settings)
    assert (report.dataset, report.split, report.images, report.complete) == ("mine", "val", 60, True)
    assert report.rows[0].top1 > 95


@for_each(("name", "splits", "options", "message"), [
    ("digits", {"val": []}, {}, r"There is a dataset 'digits' already\. Give this one another name\."),
    ("taken", {"val": []}, {}, r"There is a dataset 'taken' already\. Give this one another name, or say replace=True"),
    ("a/b", {"val": []}, {}, r"got name='a/b'; expected letters, digits and _\.-, such as 'flowers'"),
    ("mine", {"test": []}, {}, r"got evaluated_on='val', which is no split\. Known: test\."),
    ("mine", {"val": iter(())}, {}, r"'val' of mine is of type tuple_iterator; expected what has a length"),
])  # fmt: skip
def test_what_can_not_be_registered(name: str, splits: Any, options: Any, message: str) -> None:
    register_dataset("taken", {"val": []}, replace=True)
    with pytest.raises(ArgumentError, match=message):
        register_dataset(name, splits, **options)


def test_what_is_no_pair_is_told_of() -> None:
    register_dataset("mine", {"val": [UINT8], "train": [(UINT8, 0.5)]})
    with pytest.raises(DataError, match=r"mine val gives a Tensor at 0; expected \(image, label\), or a dict with"):
        open_split("mine", "val").batch([0], None)
    with pytest.raises(DataError, match=r"A label of mine train is no whole number from 0\."):
        _ = open_split("mine", "train").labels
    with pytest.raises(UnknownNameError, match=r"mine has no split 'test'\. .*Known: train, val"):
        open_split("mine", "test")
    with pytest.raises(UnknownNameError, match=r"Unknown dataset 'mime'\. Did you mean 'mine'\?"):
        open_split("mime", "val")
