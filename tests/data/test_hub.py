from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from qzoo.data.catalog import open_split
from qzoo.errors import DataError


def pretend(monkeypatch: pytest.MonkeyPatch, load_dataset: Any) -> None:
    monkeypatch.setitem(sys.modules, "datasets", load_dataset and SimpleNamespace(load_dataset=load_dataset))


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
