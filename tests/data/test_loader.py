from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qzoo.data import loader, open_split
from qzoo.data.image_folder import open_folder
from qzoo.errors import DataError


def to_float(image: torch.Tensor) -> torch.Tensor:
    return image.float()


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (100, [3])])
def test_batches_hold_the_images_in_order(batch_size: int, sizes: list[int]) -> None:
    split = open_split("digits", "test")
    batches = list(loader(split, to_float, batch_size, [7, 0, 7]))
    assert [len(y) for _, y in batches] == sizes
    assert torch.equal(torch.cat([x for x, _ in batches]), split.images[[7, 0, 7]].float())
    assert torch.cat([y for _, y in batches]).tolist() == split.labels[[7, 0, 7]].tolist()


def test_by_default_all_images() -> None:
    assert sum(len(y) for _, y in loader(open_split("digits", "test"), to_float, 250)) == 597


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_of_nothing_is_refused(batch_size: int) -> None:
    with pytest.raises(DataError, match=rf"A batch of {batch_size} images is asked for\. Give a batch size of 1"):
        next(iter(loader(open_split("digits", "test"), to_float, batch_size)))


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_reads_alike_from_workers(workers: int, tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 2}))
    Path(split.files[1]).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^\S+ant/1\.JPEG is no image, or damaged \([^\n]+\)\. Remove it or fetch it"):
        list(loader(split, lambda image: torch.zeros(1), 1, workers=workers))
