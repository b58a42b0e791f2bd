from __future__ import annotations

import pytest
import torch

from qzoo.errors import DataError
from qzoo.progress import silent
from qzoo.tasks.inputs.kept_batches import kept_batches

CPU = torch.device("cpu")


def test_batches_are_read_as_often_as_one_likes() -> None:
    images = iter([torch.ones(2, 3), torch.zeros(1, 3)])
    with kept_batches(images, CPU, None, silent, None) as kept:
        assert kept.images == 3
        for _ in range(2):
            assert [batch.tolist() for batch in kept] == [[[1] * 3] * 2, [[0] * 3]]


def test_of_many_images_the_first_are_kept_and_no_more_are_asked_for() -> None:
    asked = []

    def images() -> object:
        for number in range(5):
            asked.append(number)
            yield (torch.full((4, 2), number), torch.full((4, 1), number)), torch.zeros(4, dtype=torch.long)

    with kept_batches(images(), CPU, None, silent, None, most=6) as kept:
        assert kept.images == 6
        first, second = list(kept)
    assert [tuple(one.shape) for one in (*first, *second)] == [(4, 2), (4, 1), (2, 2), (2, 1)]
    assert asked == [0, 1]
    with kept_batches(images(), CPU, None, silent, None, most=100) as kept:
        assert kept.images == 20


def test_no_image_is_told() -> None:
    with (
        pytest.raises(DataError, match=r"There is no image\. Give at least one batch"),
        kept_batches([], CPU, None, silent, None),
    ):
        pass
