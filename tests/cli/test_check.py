"""`qzoo check` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import qzoo as package
from qzoo.cli.main import app

NAME = "resnet8_digits_int8"


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    model = package.create(NAME, pretrained=True)
    for path, factor in (("layer2.conv1", 2), ("layer3.conv1", 0.5)):
        model.get_buffer(f"{path}.input_quantizer.amax").mul_(factor)
    return package.save(model, tmp_path / "wrong.safetensors")


def test_fine() -> None:
    result = check(NAME)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "fine: 17 ranges fit these images."
    assert lines[1].startswith(f"{NAME} on 64 images: 100.0 % agree with float (94.3 to 100.0), SQNR ")
    assert lines[3].split() == ["quantizer", "range", "found", "here", "ratio", "clipped"]
    assert lines[-2] == "and 12 that are nearer; --top or --json has them"
    assert lines[-1] == f"next ship it: qzoo export {NAME}"


def test_wrong_ranges_exit_with_1_and_are_on_top(wrong: Path, tmp_path: Path) -> None:
    facts = tmp_path / "check.json"
    result = check(NAME, "--ranges", wrong, "--top", "1", "--json", facts)
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("layers: 2 of 17 ranges do not fit: ")
    assert "layer2.conv1.input_quantizer (too wide)" in lines[0]
    # Faults are in the table however short it is.
    told = {line.split()[0]: line for line in lines[4:6]}
    assert told["layer2.conv1.input_quantizer"].endswith("too wide")
    assert told["layer3.conv1.input_quantizer"].endswith("too narrow")
    assert lines[-1] == f"next find ranges anew, on images like these: qzoo calibrate {NAME}"
    report = json.loads(facts.read_text())
    assert (report["schema"], report["verdict"], len(report["quantizers"])) == (1, "layers", 17)


def test_json_alone() -> None:
    result = check(NAME, "--json", "-", "--images", "16")
    assert json.loads(result.stdout)["images"] == 16


@pytest.mark.parametrize(("arguments", "message"), [
    (("resnet8_digits",), "is a float base; name one of its variants"),
    ((NAME, "--data", "nowhere"), "There is no folder nowhere. Give a folder of images with --data"),
    ((NAME, "--images", "5"), "check() got 5 images, of which nothing follows for ranges; expected at least 16"),
    ((NAME, "--images", "1000"), "1,000 images are asked for, but digits test holds 597"),
    (("resnet8_digits_int9",), "resnet8_digits_int8"),
])  # fmt: skip
def test_wrong_input_exits_with_2_and_one_message(arguments: tuple[str, ...], message: str) -> None:
    result = check(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
