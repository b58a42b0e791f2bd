"""Checking by name: whose images, whose ranges, and against what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import qzoo
from qzoo.commands.check import check_named
from qzoo.commands.settings import Settings
from qzoo.data import open_split
from qzoo.errors import DataError, UnknownNameError, WeightsError
from qzoo.zoo.name_lookup import find

NAME = "resnet8_digits_int8"
MODEL = find(NAME)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of the training split as files in one folder."""
    folder, split = tmp_path_factory.mktemp("photos"), open_split("digits", "train")
    for n in range(40):
        Image.fromarray(split.images[torch.tensor([n])][0, 0].numpy()).save(folder / f"{n}.png")  # type: ignore[attr-defined]
    return folder


def test_without_a_folder_it_is_a_seeded_sample_of_the_evaluation_split() -> None:
    found = check_named(MODEL)
    assert (found.name, found.images, found.verdict) == (NAME, 64, "fine")
    by_name = qzoo.check(NAME)
    assert (found.agreement, found.sqnr_db) == (by_name.agreement, by_name.sqnr_db)
    assert check_named(MODEL, images=100).images == 100
    assert check_named(MODEL, seed=1).sqnr_db != found.sqnr_db


def test_a_folder_of_image_files_takes_all_where_there_are_fewer_than_64(photos: Path) -> None:
    found = check_named(MODEL, Settings(data=photos, workers=0))
    assert (found.images, found.verdict) == (40, "fine")
    assert check_named(MODEL, Settings(data=photos, workers=0), images=16).images == 16


def test_more_images_than_there_are_or_too_few(photos: Path) -> None:
    with pytest.raises(DataError, match=r"100 images are asked for, but photos\w* images holds 40. Ask for 1 to 40"):
        check_named(MODEL, Settings(data=photos), images=100)
    with pytest.raises(DataError, match=r"check\(\) got 3 images, of which nothing follows"):
        check_named(MODEL, Settings(data=photos, workers=0), images=3)


def test_any_file_of_ranges_and_a_planted_one_is_found(tmp_path: Path) -> None:
    model = qzoo.create(NAME, pretrained=True)
    sound = qzoo.save(model, tmp_path / "sound.safetensors")
    model.get_buffer("layer2.conv1.input_quantizer.amax").mul_(2)
    wrong = qzoo.save(model, tmp_path / "wrong.safetensors")
    assert check_named(MODEL, ranges=sound).verdict == "fine"
    (fault,) = check_named(MODEL, ranges=wrong).faults
    assert (fault.path, fault.fault) == ("layer2.conv1.input_quantizer", "wide")
    other = qzoo.save(qzoo.create("resnet8_digits_w4a4", pretrained=True), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other.safetensors"):
        check_named(MODEL, ranges=other)


def test_an_optimized_and_a_trained_variant_are_held_against_their_base() -> None:
    for variant in ("w2a2_opt", "w2a2_qat"):
        found = check_named(find(f"resnet8_digits_{variant}"))
        assert found.verdict == "fine"
        assert not any(one.judged for one in found.quantizers)


def test_a_float_base_has_no_ranges() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet8_digits' is a float base; name one of its variants"):
        check_named(find("resnet8_digits"))
