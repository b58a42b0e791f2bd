from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from qzoo.commands.settings import usable_device, usable_devices
from qzoo.errors import DataError, UnsupportedError
from qzoo.schema.calibration import CalibrationSpec
from qzoo.schema.recipe import Base
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import evaluation_images

DIGITS = Base(source="qzoo", architecture="resnet8_digits")


def test_a_seed_gives_the_same_images_and_another_seed_others() -> None:
    one, same, other = (
        calibration_images(DIGITS, "digits", CalibrationSpec(images=100, seed=seed)) for seed in (0, 0, 1)
    )
    assert one.digest() == same.digest() != other.digest()
    assert [len(x) for x, _ in one] == [100]
    assert set(one.indices) & set(other.indices) != set(one.indices)


def test_batches_are_of_the_size_that_is_asked_for() -> None:
    images = calibration_images(DIGITS, "digits", CalibrationSpec(images=100), batch_size=30)
    assert [len(x) for x, _ in images] == [30, 30, 30, 10]
    assert len(images) == 100


def test_the_train_transform_is_used_and_does_not_depend_on_the_batch() -> None:
    spec = CalibrationSpec(images=64, transform="train")
    plain, augmented, in_small = (
        torch.cat([x for x, _ in calibration_images(DIGITS, "digits", s, batch_size=size)])
        for s, size in ((CalibrationSpec(images=64), 64), (spec, 64), (spec, 7))
    )
    assert plain.shape == augmented.shape
    assert not torch.equal(plain, augmented)
    assert torch.equal(augmented, in_small)


def test_more_images_than_the_split_holds() -> None:
    short = calibration_images(DIGITS, "digits", CalibrationSpec(images=5000))
    assert short.short
    assert len(short) == 1200
    with pytest.raises(
        DataError, match=r"5,000 images are asked for, but digits train holds 1,200. Ask for 1 to 1,200"
    ):
        calibration_images(DIGITS, "digits", CalibrationSpec(), images=5000)
    with pytest.raises(DataError, match=r"600 images are asked for, but digits test holds 597"):
        evaluation_images(DIGITS, "digits", images=600)


def test_calibrating_on_the_evaluation_split_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"calibrates on 'test', the split that accuracy is measured on.*allow_leak: true"
    ):
        calibration_images(DIGITS, "digits", CalibrationSpec(split="test"))
    assert len(calibration_images(DIGITS, "digits", CalibrationSpec(split="test", images=10, allow_leak=True))) == 10


def test_a_sample_to_evaluate_on_is_seeded_and_in_the_order_of_the_split() -> None:
    images = evaluation_images(DIGITS, "digits", images=50)
    assert images.indices == sorted(images.indices)
    assert images.indices == evaluation_images(DIGITS, "digits", images=50).indices
    assert len(evaluation_images(DIGITS, "digits")) == 597


@pytest.mark.parametrize("asked", [None, 0, 3])
def test_files_are_decoded_by_as_many_workers_as_asked_or_one_a_core(asked: int | None, data_root: Path) -> None:
    base, folder, spec = Base(source="timm", architecture="test_resnet"), data_root / "imagenet-mini", CalibrationSpec()
    for images in (
        evaluation_images(base, "imagenet-1k", folder, images=4, workers=asked),
        calibration_images(base, "imagenet-1k", spec, folder, images=4, workers=asked),
    ):
        assert images.workers == (min(os.cpu_count() or 1, 8) if asked is None else asked)
    assert evaluation_images(DIGITS, "digits", workers=asked).workers == (asked or 0)


def test_labels_are_those_of_the_images_in_order() -> None:
    images = evaluation_images(DIGITS, "digits", images=30)
    assert torch.equal(images.labels, torch.cat([y for _, y in images]))


def test_cifar_wrong_folder(tmp_path: Path) -> None:
    base = Base(source="qzoo", architecture="resnet20_cifar10")
    with pytest.raises(DataError, match="holds no CIFAR-10 test split"):
        evaluation_images(base, "cifar10", tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        evaluation_images(base, "cifar10", tmp_path / "missing")


def test_devices() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_devices()[0] == "cpu"
    with pytest.raises(UnsupportedError, match=r"Device 'gpu' can't be used here. Usable: cpu"):
        usable_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedError, match="Device 'cuda' can't be used here"):
            usable_device("cuda")
