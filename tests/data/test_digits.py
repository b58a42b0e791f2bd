from __future__ import annotations

import torch

from qzoo.data.digits import open_digits
from qzoo.data.split import sample_digest


def test_splits_are_the_same_on_every_machine() -> None:
    digests = {name: sample_digest(split := open_digits(name), range(len(split))) for name in ("train", "test")}
    assert digests == {
        "train": "b3543e62035ac309665a4988b5c8b063b0b27102c1aeeb706dfc711573d03d9d",
        "test": "8c86e5c9b0d22ebd4819319b538ae2d563efcd082ec9bfa9ed6484364e81f253",
    }


def test_splits_share_no_image_and_hold_all() -> None:
    train, test = open_digits("train"), open_digits("test")
    assert (len(train), len(test)) == (1200, 597)
    assert int(train.images.sum()) + int(test.images.sum()) == 8953801


def test_images_are_uint8_of_full_range_with_ten_labels() -> None:
    split = open_digits("train")
    assert (split.images.dtype, split.images.shape[1:]) == (torch.uint8, (1, 8, 8))
    assert (int(split.images.min()), int(split.images.max())) == (0, 255)
    assert split.labels.unique().tolist() == list(range(10))
    assert split.complete
