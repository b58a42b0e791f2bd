"""Checking by name: whose images, whose ranges, and against what."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

import qzoo
from qzoo.commands.check import check_named
from qzoo.commands.settings import Settings
from qzoo.errors import DataError, UnknownNameError, WeightsError
from qzoo.models import own_models
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel

NAME = "resnet8_digits_int8"


@cache
def digits() -> ZooModel:
    return find(NAME)


def net() -> nn.Module:
    """A network of RGB images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 image files."""
    monkeypatch.setattr("qzoo.commands.check.default_workers", lambda _: 0)
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for n in range(40):
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def own(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ZooModel, Path]:
    """A variant of one's own network, and a file of ranges for it."""
    monkeypatch.setattr(own_models, "_registered", {})
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    qzoo.register_model("checked_net", net, transform=transform)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "base: {source: python, architecture: checked_net}\ndataset: my_photos\nvariants: {int8: {scheme: int8}}\n"
    )
    model = qzoo.create(f"{recipe}:int8", pretrained="float")
    images = [transform(Image.open(file)) for file in sorted(photos.iterdir())]
    qzoo.save(qzoo.calibrate(model, torch.stack(images)), tmp_path / "mine.ranges.safetensors")
    return find(f"{recipe}:int8"), tmp_path / "mine.ranges.safetensors"


def test_without_a_folder_it_is_a_seeded_sample_of_the_evaluation_split() -> None:
    found = check_named(digits())
    assert (found.name, found.images, found.verdict) == (NAME, 64, "fine")
    by_name = qzoo.check(NAME)
    assert (found.agreement, found.sqnr_db) == (by_name.agreement, by_name.sqnr_db)
    assert check_named(digits(), images=100).images == 100
    assert check_named(digits(), seed=1).sqnr_db != found.sqnr_db


def test_a_folder_of_image_files_takes_all_where_there_are_fewer_than_64(
    own: tuple[ZooModel, Path], photos: Path
) -> None:
    variant, ranges = own
    found = check_named(variant, Settings(data=photos), ranges=ranges)
    assert (found.name, found.images, found.verdict) == ("mine_int8", 40, "fine")
    assert check_named(variant, Settings(data=photos), ranges=ranges, images=16).images == 16


def test_more_images_than_there_are_or_too_few(own: tuple[ZooModel, Path], photos: Path) -> None:
    variant, ranges = own
    with pytest.raises(DataError, match=r"100 images are asked for, but photos images holds 40. Ask for 1 to 40"):
        check_named(variant, Settings(data=photos), ranges=ranges, images=100)
    with pytest.raises(DataError, match=r"check\(\) got 3 images, of which nothing follows"):
        check_named(variant, Settings(data=photos), ranges=ranges, images=3)


def test_images_that_the_model_can_not_take_are_told(photos: Path) -> None:
    with pytest.raises(DataError, match=r"Item 0 of the images, float32 \(8, 3, 8, 8\): .* float32 \(N, 1, H, W\)"):
        check_named(digits(), Settings(data=photos))
    Image.new("RGB", (32, 24)).save(photos / "00.png")
    with pytest.raises(
        DataError, match=r"comes out of the transform of resnet8_digits_int8 with 24x32 pixels; its wei"
    ):
        check_named(digits(), Settings(data=photos))


def test_any_file_of_ranges_and_a_planted_one_is_found(tmp_path: Path) -> None:
    model = qzoo.create(NAME, pretrained=True)
    sound = qzoo.save(model, tmp_path / "sound.safetensors")
    model.get_buffer("layer2.conv1.input_quantizer.amax").mul_(2)
    wrong = qzoo.save(model, tmp_path / "wrong.safetensors")
    assert check_named(digits(), ranges=sound).verdict == "fine"
    (fault,) = check_named(digits(), ranges=wrong).faults
    assert (fault.path, fault.fault) == ("layer2.conv1.input_quantizer", "wide")
    other = qzoo.save(qzoo.create("resnet8_digits_w4a4", pretrained=True), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other.safetensors"):
        check_named(digits(), ranges=other)


def test_an_optimized_and_a_trained_variant_are_held_against_their_base() -> None:
    for variant in ("w2a2_opt", "w2a2_qat"):
        found = check_named(find(f"resnet8_digits_{variant}"))
        assert found.verdict == "fine"
        assert not any(one.judged for one in found.quantizers)


def test_a_float_base_has_no_ranges() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet8_digits' is a float base; name one of its variants"):
        check_named(find("resnet8_digits"))
