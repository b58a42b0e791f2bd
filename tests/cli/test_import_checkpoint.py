"""`qzoo import` as a person runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import qzoo as package
from qzoo.cli.main import app
from qzoo.compat import export_state_dict

NAME = "resnet8_digits_int8"


def qzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    state = export_state_dict(package.create(NAME, pretrained=True))
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_it_says_what_was_taken_over_and_how_to_load_it(checkpoint: Path, tmp_path: Path) -> None:
    result = qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert f"{NAME}@1: 17 ranges and " in result.output
    assert "(behind 'module.')" in result.output
    assert "as the variant says, and no state dict does: weights 8bit, activations 8bit" in result.output
    assert "Its float weights are those that the recipe names." in result.output
    file = tmp_path / "made" / f"{NAME}.ranges.safetensors"
    assert f'load it:  qzoo.load(qzoo.create("{NAME}", pretrained="float"), "{file}")' in result.output
    assert f"evaluate it:  qzoo evaluate {NAME} --ranges {file}" in result.output
    assert "top-1 99.33" in qzoo("evaluate", NAME, "--ranges", file).output
    assert file.is_file()


def test_json(checkpoint: Path, tmp_path: Path) -> None:
    result = qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path, "--json", tmp_path / "made.json")
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["name"] == NAME
    assert (made["ranges"], made["wrapper"], made["of_base"], made["left_out"]) == (17, "module.", True, [])
    assert made["files"] == [str(tmp_path / f"{NAME}.ranges.safetensors")]


def test_what_ships_with_a_recipe_goes_before_what_is_imported(checkpoint: Path) -> None:
    """So the name alone would give another model than the one that was imported."""
    result = qzoo("import", checkpoint, "--as", NAME)
    assert f'load it:  qzoo.load(qzoo.create("{NAME}", pretrained="float"), "' in result.output


def test_a_recipe_of_ones_own_finds_it_by_name(checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((package.environment.packaged("digits") / "resnet8_digits.yaml").read_text())
    result = qzoo("import", checkpoint, "--as", f"{recipe}:int8")
    assert f'load it:  qzoo.create("{recipe}:int8", pretrained=True)' in result.output
    assert f"evaluate it:  qzoo evaluate {recipe}:int8\n" in result.output


def test_trained_weights(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["module.conv1.weight"] *= 2
    state["module.extra"] = torch.ones(1)
    torch.save(state, checkpoint)
    result = qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path, "--ignore", "module.extra")
    assert result.exit_code == 0, result.output
    assert "left out: module.extra\n" in result.output
    assert "Its float weights are not those that the recipe names." in result.output
    assert f'qzoo.load(qzoo.create("{NAME}"), "{tmp_path / NAME}.model.safetensors")' in result.output
    # One weight was doubled, and its ranges were not.
    assert "top-1 " in qzoo("evaluate", NAME, "--ranges", f"{tmp_path / NAME}.model.safetensors").output


def test_mistakes_are_one_message(checkpoint: Path) -> None:
    result = qzoo("import", checkpoint, "--as", "resnet18_int8")
    assert result.exit_code == 2
    assert "unexpected, " in result.output
    assert "Traceback" not in result.output
    assert qzoo("import", "nowhere.pth", "--as", NAME).exit_code == 2
    target = qzoo("import", checkpoint, "--as", NAME, "-o", checkpoint)
    assert (target.exit_code, "a.pth is a file; the artifacts go into a folder" in target.output) == (2, True)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_format_without_checksums_is_said_in_one_line_unless_the_file_is_pinned(
    checkpoint: Path, tmp_path: Path
) -> None:
    state, note = torch.load(checkpoint, weights_only=True), "is of a format without checksums: damage to it would not"
    assert note not in qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path).output
    torch.save(state, checkpoint, _use_new_zipfile_serialization=False)
    assert f"a.pth {note} be noticed. --sha256 HEX" in qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path).output
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    result = qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path, "--sha256", digest)
    assert result.exit_code == 0, result.output
    assert note not in result.output
    result = qzoo("import", checkpoint, "--as", NAME, "-o", tmp_path, "--sha256", "0" * 64)
    assert result.exit_code == 2
    assert "expected 0000000000000000...: it is truncated, corrupt or another file" in " ".join(result.output.split())
