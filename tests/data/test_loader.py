from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qzoo.data import loader, open_split
from qzoo.data.image_folder import open_folder
from qzoo.data.loader import default_workers
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


def as_float(image: Any) -> Tensor:
    return torch.tensor([float(os.getpid())])


def test_workers_decode_elsewhere_and_a_single_batch_needs_none(
    tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 4}))
    processes = {size: {int(p) for x, _ in loader(split, as_float, size, workers=2) for p in x} for size in (1, 4)}
    assert len(processes[1] - {os.getpid()}) == 2
    assert processes[4] == {os.getpid()}


def test_workers_have_one_thread_and_leave_ctrl_c_to_the_main_process(
    tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    def state(_: Any) -> Tensor:
        return torch.tensor([torch.get_num_threads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN])

    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 2}))
    assert [x.tolist() for x, _ in loader(split, state, 1, workers=2)] == [[[1, 1]], [[1, 1]]]


def test_a_worker_that_dies_is_told(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    def die(_: Any) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)

    split = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 2}))
    with pytest.raises(
        DataError, match=r"process that decodes images has died \(.*Use fewer with --workers, or --work"
    ):
        list(loader(split, die, 1, workers=2))


def test_by_default_a_worker_a_core_for_files_and_none_in_memory(
    tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert default_workers(open_split("digits", "test")) == 0
    files = open_folder("mine", "val", image_folder(tmp_path, {"val/ant": 1}))
    assert default_workers(files) == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert default_workers(files) == 3, "the processes of this machine share its cores"
