"""`qzoo optimize` and all that finds, publishes and checks what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import qzoo
from qzoo.cli.main import app
from qzoo.commands.optimize import optimizable, optimize_variants
from qzoo.commands.release.bundle import make_bundle
from qzoo.commands.settings import Settings
from qzoo.commands.verify import verify
from qzoo.errors import UnsupportedError, WeightsError
from qzoo.weights.kinds import RANGES, ROUNDING
from qzoo.zoo.name_lookup import find

RECIPE = """
version: 1
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
calibration: {images: 64}
scheme: w4a4
variants:
  ranges: {}
  opt: {optimize: {round: gptq, correct_bias: true}}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_it_is_kept_where_create_finds_it(recipe: Path) -> None:
    name = f"{recipe}:opt"
    with pytest.raises(WeightsError, match=r"Nothing is released or optimized for mine_opt yet.*once: qzoo optimize "):
        qzoo.create(name, pretrained=True)
    (made,) = optimize_variants(optimizable(find(name)))
    assert made.path.name == "mine_opt.rounding.safetensors"
    assert [step.step for step in made.report.steps] == ["round", "correct_bias"]
    model = qzoo.create(name, pretrained=True)
    again = qzoo.load(qzoo.create(name, pretrained="float"), made.path)
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_a_base_means_all_variants_that_say_steps(recipe: Path) -> None:
    assert [one.variant for one in optimizable(find(recipe))] == ["opt"]
    with pytest.raises(UnsupportedError, match=r"mine\.yaml:ranges says no steps.*These have one: .*mine\.yaml:opt\."):
        optimizable(find(f"{recipe}:ranges"))


def test_calibrate_names_the_command_that_does_both(recipe: Path) -> None:
    from qzoo.commands.calibrate import calibratable

    assert [one.variant for one in calibratable(find(recipe))] == ["ranges"]
    with pytest.raises(UnsupportedError, match=r"more than calibrated.*This does both: qzoo optimize "):
        calibratable(find(f"{recipe}:opt"))


def test_it_is_released_verified_and_loaded_like_any_other(recipe: Path, tmp_path: Path) -> None:
    zoo_model, folder = find(f"{recipe}:opt"), tmp_path / "made"
    bundle = make_bundle(zoo_model, folder, Settings(eval_images=64))
    assert {ROUNDING.file, "model.safetensors", "receipt.safetensors"} <= set(bundle.manifest.files)
    assert RANGES.file not in bundle.manifest.files
    assert not bundle.missing
    card = (folder / "README.md").read_text()
    assert "After calibration its weights were changed" in card
    assert "gptq, damping 0.01" in card
    whole = qzoo.create(str(folder), pretrained=True)
    assert verify(str(folder)).reproduced
    make_bundle(zoo_model, tmp_path / "small", Settings(eval_images=64), weights="none")
    rounded = qzoo.create(str(tmp_path / "small"), pretrained=True)
    floats = {key: value for key, value in whole.state_dict().items() if value.is_floating_point()}
    assert all(torch.equal(value, rounded.state_dict()[key]) for key, value in floats.items())


def test_the_command_says_what_each_step_did(recipe: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["optimize", f"{recipe}:opt", "--json", str(tmp_path / "x.json")])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert any(line.startswith("mine_opt, optimized on 64 images") for line in lines)
    assert any(line.split()[0] == "round" for line in lines if line)
    steps = json.loads((tmp_path / "x.json").read_text())["mine_opt"]["steps"]
    assert [step["step"] for step in steps] == ["round", "correct_bias"]
