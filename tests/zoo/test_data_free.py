"""`create(pretrained=True)` where nobody calibrated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import qzoo
from qzoo import environment
from qzoo.errors import WeightsError
from qzoo.models.on_base import info_of
from qzoo.models.provenance import ranges_from
from qzoo.quant.ranges import get_ranges
from qzoo.zoo.data_free import DataFreeRangesWarning, origin

RECIPE = """
base: {source: qzoo, architecture: resnet8_digits, weights: digits}
dataset: digits
variants:
  int8: {}
  w2a2_opt: {scheme: int8, weight: {bits: 2}, optimize: {round: gptq}}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A variant that nobody calibrated, and an empty cache."""
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
    shipped = qzoo.recipe("resnet8_digits").base
    text = (
        RECIPE.replace("digits}", f"{shipped.weights}}}", 1)
        if shipped.weights
        else RECIPE.replace(", weights: digits", "")
    )
    (tmp_path / "mine.yaml").write_text(text)
    return f"{tmp_path / 'mine.yaml'}:int8"


def test_ranges_are_made_once_and_said_to_be(recipe: str) -> None:
    with pytest.warns(DataFreeRangesWarning, match=r"no image of digits.*scaled to batch norm.*made in \d+ s, kept"):
        first = qzoo.create(recipe, pretrained=True)
    with pytest.warns(DataFreeRangesWarning, match=r"made on 20\d\d-\d\d-\d\d, kept as .*Better ones: qzoo calibrate"):
        second = qzoo.create(recipe, pretrained=True)
    assert ranges_from(first) == ranges_from(second) == origin(recipe) == "statistics"
    for key, value in get_ranges(first).items():
        assert torch.equal(value, get_ranges(second)[key])


def test_the_model_is_nearly_as_good_as_one_that_saw_images(recipe: str) -> None:
    with pytest.warns(DataFreeRangesWarning):
        model = qzoo.create(recipe, pretrained=True)
    images = qzoo.evaluate("resnet8_digits_int8")
    measured = qzoo.evaluate(model, _test_images())
    assert measured.agreement(images) >= 99


def test_exact_refuses(recipe: str) -> None:
    with pytest.raises(WeightsError, match=r"Nothing is released or calibrated for .* yet"):
        qzoo.create(recipe, pretrained="exact")


def test_exact_refuses_a_file_made_without_images_where_others_are_looked_for(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(DataFreeRangesWarning):
        qzoo.create(recipe, pretrained=True)
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(environment.made_without_images()))
    with pytest.raises(WeightsError, match="are of synthetic images, scaled to batch norm's statistics, not as"):
        qzoo.create(recipe, pretrained="exact")


def test_calibrating_on_images_goes_before(recipe: str) -> None:
    from qzoo.commands.calibrate import calibrate_variants
    from qzoo.commands.settings import Settings
    from qzoo.zoo.name_lookup import find

    calibrate_variants([find(recipe)], Settings(data=Path("statistics")))
    assert origin(recipe) == "statistics"
    calibrate_variants([find(recipe)])
    assert origin(recipe) == "images"
    assert ranges_from(qzoo.create(recipe, pretrained=True)) == "images"


def test_what_was_made_lies_apart_with_a_picture(recipe: str) -> None:
    from qzoo.commands.calibrate import calibrate_variants
    from qzoo.commands.settings import Settings
    from qzoo.zoo.name_lookup import find

    made = calibrate_variants([find(recipe)], Settings(data=Path("synthetic"), calib_images=20))[0]
    assert made.path.parent == environment.made_without_images()
    assert info_of(made.path).calibration_source == "synthetic"
    assert (made.path.parent / "mine_int8.images.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_file_is_made_anew(recipe: str) -> None:
    with pytest.warns(DataFreeRangesWarning):
        qzoo.create(recipe, pretrained=True)
    file = next(environment.made_without_images().glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(DataFreeRangesWarning, match="made in"):
        qzoo.create(recipe, pretrained=True)


def test_where_nothing_can_be_kept(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "file"))
    with pytest.warns(DataFreeRangesWarning, match=r"and not kept \(Not a directory\)"):
        model = qzoo.create(recipe, pretrained=True)
    assert ranges_from(model) == "statistics"


def test_another_head(recipe: str) -> None:
    with pytest.warns() as told:
        model = qzoo.create(recipe, pretrained=True, num_classes=3)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
    assert {one.category.__name__ for one in told} >= {"DataFreeRangesWarning", "NewHeadWarning"}


def test_what_is_optimized_has_to_be_asked_for(recipe: str) -> None:
    with pytest.raises(WeightsError, match="Nothing is released or optimized"):
        qzoo.create(recipe.replace(":int8", ":w2a2_opt"), pretrained=True)


def test_a_missing_float_file_is_told_as_before(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match="Can't download"):
        qzoo.create("resnet18_int8", pretrained=True)


def _no_network(*_: object, **__: object) -> None:
    raise OSError("Network is unreachable")


def _test_images() -> object:
    from qzoo.tasks.inputs.images import evaluation_images
    from qzoo.zoo.name_lookup import find

    return evaluation_images(find("resnet8_digits").base, "digits")


def test_copies_of_the_folder_are_no_calibration(recipe: str, tmp_path: Path) -> None:
    """Whoever copies the file beside the recipe is still told."""
    with pytest.warns(DataFreeRangesWarning):
        qzoo.create(recipe, pretrained=True)
    (tmp_path / "artifacts").mkdir()
    shutil.copy(next(environment.made_without_images().glob("*.safetensors")), tmp_path / "artifacts")
    with pytest.warns(DataFreeRangesWarning, match="on no image of digits"):
        qzoo.create(recipe, pretrained=True)
