"""push, pull, verify and solve as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qzoo.cli.main import app

NAME, REPO = "resnet8_digits_int8", "tester/resnet8_digits_int8"


def qzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    assert qzoo("reproduce", "resnet8_digits", "--only", "int8", "--artifacts", folder).exit_code == 0
    return folder


def test_push_pull_and_verify(hub: Any, hub_client: Any, artifacts: Path, tmp_path: Path) -> None:
    pushed = qzoo("push", NAME, REPO, "--artifacts", artifacts, "--pin", tmp_path / "hub.json")
    assert pushed.exit_code == 0, pushed.output
    commit = hub.repos[REPO].head
    assert f"released as hf-hub:{REPO} at commit {commit}" in pushed.output
    assert f'load it:  qzoo.create("hf-hub:{REPO}", pretrained=True)' in pushed.output
    assert "note" not in pushed.output
    assert json.loads((tmp_path / "hub.json").read_text())["revisions"] == {NAME: commit}

    pulled = qzoo("pull", REPO, "-o", tmp_path / "copy")
    assert pulled.exit_code == 0, pulled.output
    assert "model.safetensors" in pulled.output
    verified = qzoo("verify", tmp_path / "copy")
    assert verified.exit_code == 0, verified.output
    assert "reproduced: this machine gets the predictions of the claim" in verified.output
    evaluated = qzoo("evaluate", f"hf-hub:{REPO}")
    assert "top-1 99.33" in evaluated.output
    explained = qzoo("explain", f"hf-hub:{REPO}")
    assert explained.exit_code == 0
    assert "blobs" not in explained.output


def test_a_dry_run_keeps_the_files_and_says_what_is_missing(hub: Any, hub_client: Any, tmp_path: Path) -> None:
    result = qzoo("push", NAME, REPO, "--dry-run", "-o", tmp_path / "look", "--weights", "none", "--json", "-")
    facts = json.loads(result.stdout[result.stdout.index("{") :])
    assert facts["commit"] is None
    assert sorted(facts["manifest"]["files"]) == sorted(
        file.name for file in (tmp_path / "look").iterdir() if file.name != "manifest.json"
    )
    assert "no histograms of these ranges" in facts["missing"][0]
    assert hub.requests == []


def test_a_mistake_in_a_push_is_one_message(tmp_path: Path) -> None:
    result = qzoo("push", NAME, REPO, "--weights", "pakced")
    assert result.exit_code == 2
    assert "--weights 'pakced' is unknown. Did you mean 'packed'?" in result.output
    assert "is no repository of the hub" in qzoo("push", NAME, "resnet8").output


def test_verify_fails_with_1_and_says_where_to_look(artifacts: Path, tmp_path: Path) -> None:
    from qzoo.weights.ranges import load_ranges, save_ranges

    ranges, info = load_ranges(artifacts / f"{NAME}.ranges.safetensors")
    ranges["conv1.input_quantizer.amax"] *= 1.05
    save_ranges(tmp_path / "tampered.safetensors", ranges, info)
    receipt = artifacts / f"{NAME}.receipt.safetensors"
    result = qzoo("verify", NAME, "--receipt", receipt, "--ranges", tmp_path / "tampered.safetensors")
    assert result.exit_code == 1
    assert "not reproduced: this is another model or another arithmetic. The float model agrees" in result.output
    told = qzoo("verify", NAME, "--receipt", receipt, "--images", "50", "--json", "-")
    facts = json.loads(told.stdout[told.stdout.index("{") :])
    assert facts["reproduced"] is True
    assert facts["usual"]["images"] == facts["exact"]["images"] == 50


def test_solve_says_what_a_recipe_has_to_say(artifacts: Path, tmp_path: Path) -> None:
    histograms = artifacts / f"{NAME}.histograms.safetensors"
    result = qzoo("solve", histograms, "--method", "mse", "--bits", "6", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "resnet8_digits_int8_a6_mse: 17 ranges" in result.output
    assert "int8_a6_mse: {from: int8, input: {bits: 6, calibrator: mse}}" in result.output
    assert (tmp_path / "resnet8_digits_int8_a6_mse.ranges.safetensors").is_file()
    wrong = qzoo("solve", histograms, "--method", "entrpy")
    assert wrong.exit_code == 2
    assert "Unknown method 'entrpy'. Did you mean 'entropy'?" in wrong.output


def test_evaluate_writes_a_receipt(tmp_path: Path) -> None:
    path = tmp_path / "own.receipt.safetensors"
    assert qzoo("evaluate", NAME, "--receipt", path).exit_code == 0
    assert qzoo("verify", NAME, "--receipt", path).exit_code == 0
    refused = qzoo("evaluate", "resnet8_digits", "--receipt", path)
    assert "'resnet8_digits' is the float base, which has no receipt" in refused.output


def test_list_shows_what_is_calibrated() -> None:
    shown = qzoo("list", "--pretrained").output
    assert "resnet8_digits" in shown
    assert "resnet50" not in shown
