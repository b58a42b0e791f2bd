from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import qzoo
from qzoo.compat import export_state_dict, import_checkpoint
from qzoo.environment import packaged
from qzoo.errors import UnknownNameError, WeightsError
from qzoo.zoo.pretrained import OtherImagesWarning
from tests.runtimes.conftest import digits

NAME = "resnet8_digits_int8"


@pytest.fixture
def checkpoint(scripted_digits: nn.Module, tmp_path: Path) -> Path:
    torch.save(scripted_digits.state_dict(), tmp_path / "calibrated.pth")
    return tmp_path / "calibrated.pth"


def test_of_the_bases_own_weights_the_ranges_say_all(
    scripted_digits: nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    made = import_checkpoint(checkpoint, NAME, tmp_path / "made")
    assert (made.of_base, made.address, made.by_name) == (True, NAME, False)
    assert [file.name for file in made.files] == [f"{NAME}.ranges.safetensors"]
    assert made.files[0].stat().st_size < 10_000
    model = qzoo.create(NAME, pretrained="float")
    qzoo.load(model, made.files[0])
    with torch.no_grad():
        assert torch.equal(model(digits(64)), scripted_digits(digits(64)))
    assert export_state_dict(model).keys() == scripted_digits.state_dict().keys()


def test_trained_weights_are_kept_whole(scripted_digits: nn.Module, checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["conv1.weight"] += 0.01
    torch.save({"state_dict": state, "epoch": 1}, checkpoint)
    made = import_checkpoint(str(checkpoint), NAME, str(tmp_path / "made"))
    assert made.of_base is False
    assert [file.name for file in made.files] == [f"{NAME}.model.safetensors"]
    model = qzoo.load(qzoo.create(NAME), made.files[0])
    assert torch.equal(model.conv1.weight, state["conv1.weight"])  # type: ignore[union-attr, arg-type]


def test_a_trained_variant_is_kept_whole(checkpoint: Path) -> None:
    name = "resnet8_digits_w4a4_qat"
    made = import_checkpoint(checkpoint, name)  # bits are as the variant says
    assert not made.by_name  # the one that ships goes before
    assert [file.name for file in made.files] == [f"{name}.model.safetensors"]
    assert made.files[0].parent.name == "artifacts"


def test_where_the_bases_weights_are_not_at_hand_both_are_written(scripted_resnet18: nn.Module, tmp_path: Path) -> None:
    torch.save(scripted_resnet18.state_dict(), tmp_path / "a.pth")
    made = import_checkpoint(tmp_path / "a.pth", "resnet18_int8")
    assert made.of_base is None
    assert [file.name for file in made.files] == ["resnet18_int8.ranges.safetensors", "resnet18_int8.model.safetensors"]
    model = qzoo.load(qzoo.create("resnet18_int8"), made.files[1])
    assert export_state_dict(model).keys() == scripted_resnet18.state_dict().keys()


def test_another_variant_of_the_recipe_that_fits_is_named(scripted_resnet18: nn.Module, tmp_path: Path) -> None:
    torch.save(scripted_resnet18.state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError) as told:
        import_checkpoint(tmp_path / "a.pth", "resnet18_int8_residual")
    assert "a.pth as resnet18_int8_residual: The state dict does not fit the model:" in str(told.value)
    assert "missing in the checkpoint, 8: layer*.*.residual_quantizer.amax (8)" in str(told.value)
    assert "What fits: --as resnet18_int8 or" in str(told.value)
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_another_architecture_is_told(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match=r"Is it a checkpoint of resnet18\? Its float weights are not of that model"):
        import_checkpoint(checkpoint, "resnet18_int8")


def test_where_no_variant_fits_the_rules_of_one_are_given(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    for block in (1, 2, 3):
        state[f"layer{block}.residual_quantizer._amax"] = torch.tensor(1.0)
        state[f"layer{block}.conv2.output_quantizer._amax"] = torch.tensor(1.0)
    del state["linear._input_quantizer._amax"]
    torch.save(state, checkpoint)
    with pytest.raises(WeightsError) as told:
        import_checkpoint(checkpoint, NAME)
    assert "Its weights are those of a resnet8_digits, its quantizers those of no variant." in str(told.value)
    assert "--ignore 'GLOB', or write a variant from int8 with these rules:" in str(told.value)
    rules = [line for line in str(told.value).splitlines() if line.startswith("  - {")]
    assert len(rules) == 3

    recipe = tmp_path / "mine.yaml"
    text = (packaged("digits") / "resnet8_digits.yaml").read_text()
    variant = "\n".join(["  advised:", "    from: int8", "    rules:", *(f"    {rule}" for rule in rules), ""])
    recipe.write_text(f"{text.rstrip()}\n{variant}")
    made = import_checkpoint(checkpoint, f"{recipe}:advised", tmp_path)
    assert made.fit.ranges == 17 + 6 - 1


def test_ranges_that_are_none_have_nothing_to_do_with_the_variant(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["conv1._input_quantizer._amax"] = torch.tensor(torch.nan)
    torch.save(state, checkpoint)
    with pytest.raises(WeightsError, match=r"saw nothing\nCalibrate again in the script that made it"):
        import_checkpoint(checkpoint, NAME)


def test_ranges_along_another_axis_are_not_said_to_be_another_model(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    key = "conv1._weight_quantizer._amax"
    torch.save(state | {key: state[key].reshape(1, -1, 1, 1)}, checkpoint)
    with pytest.raises(WeightsError, match=r"has shape \[1, 16, 1, 1\], the model's \[16, 1, 1, 1\]") as caught:
        import_checkpoint(checkpoint, NAME)
    assert "Its float weights fit. Calibrate these quantizers again" in str(caught.value)


def test_a_base_is_no_variant(checkpoint: Path) -> None:
    with pytest.raises(UnknownNameError, match="'resnet8_digits' is a float base; name one of its variants"):
        import_checkpoint(checkpoint, "resnet8_digits")


def test_created_by_name_it_warns_that_the_images_are_not_known(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a recipe of one's own, beside which no ranges lie."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((packaged("digits") / "resnet8_digits.yaml").read_text())
    made = import_checkpoint(checkpoint, f"{recipe}:int8")
    assert (made.variant.name, made.by_name) == ("mine_int8", True)
    with pytest.warns(OtherImagesWarning, match="was imported or saved by hand: on which images"):
        model = qzoo.create(f"{recipe}:int8", pretrained=True)
    assert export_state_dict(model).keys() == torch.load(checkpoint, weights_only=True).keys()
