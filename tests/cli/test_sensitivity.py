"""`qzoo sensitivity`, end to end on digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import parse_recipe

RECIPE = """
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
calibration: {images: 64}
variants:
  bad: {scheme: int8, rules: [{match: {name: layer2.conv1}, weight: {bits: 2, per: tensor}}]}
"""


def sensitivity(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sensitivity", *arguments])


def test_table_chart_json_and_rules(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    chart, facts = tmp_path / "charts" / "mine.png", tmp_path / "mine.json"
    result = sensitivity(
        f"{tmp_path / 'mine.yaml'}:bad", "--eval-images", "200", "--calib-images", "32", "--mend", "2", "--top", "5",
        "--chart", str(chart), "--json", str(facts),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mine_bad@1 on digits test, 200 images")
    assert lines[2].startswith("layer2.conv1")
    assert "calibrated on 32 images first" in result.stdout
    assert "the worst 5 of 9 layers" in result.stdout
    report = json.loads(facts.read_text())
    assert report["layers"][0]["name"] == "layer2.conv1"
    assert len(report["layers"]) == 9
    assert len(report["mended"][-1]["layers"]) == len(report["rules"]) == 2
    with Image.open(chart) as picture:
        assert picture.format == "PNG"
    pasted = "\n".join(line for line in lines if line.lstrip().startswith("- {match:"))
    text = f"{RECIPE}  mended:\n    from: bad\n    rules:\n{pasted}\n"
    assert "mended" in RecipeEntry.from_recipe(parse_recipe(text), "pasted").variants
    assert [rule["match"]["name"] for rule in report["rules"]] == report["mended"][-1]["layers"]


def test_shipped_ranges_and_json_alone() -> None:
    result = sensitivity("resnet8_digits_w4a4", "--eval-images", "50", "--mend", "0", "--json", "-")
    report = json.loads(result.stdout)
    assert (report["schema"], report["calibration"], report["rules"]) == (1, None, [])
    assert report["environment"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet8_digits"], "'resnet8_digits' is a float base; name one of its variants: resnet8_digits_int8"),
        (["resnet8_digits_int8", "--chart", "chart.gif"], "--chart chart.gif is no picture that can be written. Name"),
        (["resnet8_digits_int8", "--ranges", "no.safetensors"], "no.safetensors"),
        (["resnet8_digits_int8", "--eval-images", "9999"], "9,999 images are asked for"),
    ],
)
def test_mistakes_are_told_in_one_message(arguments: list[str], message: str) -> None:
    result = sensitivity(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_chart_that_can_t_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    result = sensitivity("resnet8_digits_int8", "--chart", str(tmp_path / "folder.png"))
    assert result.exit_code == 2
    assert "is a folder, not a file" in " ".join(result.output.split())
    assert "--chart" in result.output
