from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.results.zoo import ZooRow
from qzoo.schema.reading.catalog import Catalog
from tests.each import for_each

MINE = """
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
variants: {int8: {}}
"""


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["list", *arguments])


def piped(columns: str, *arguments: str) -> list[str]:
    """The lines of `qzoo list` in a pipe."""
    command, environment = [sys.executable, "-m", "qzoo", "list", *arguments], {**os.environ, "COLUMNS": columns}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_without_a_pattern_there_is_a_line_for_each_base_and_with_one_for_each_variant() -> None:
    names = list(Catalog.load().recipes)
    assert [line.split()[0] for line in qzoo().output.splitlines()[1 : len(names) + 1]] == names
    assert "resnet20_cifar10_int8_mse " in qzoo("resnet20*").output
    assert "resnet20_cifar10_int8_mse " in qzoo("--dataset", "cifar10").output


def test_a_pipe_is_as_wide_as_columns_says() -> None:
    assert 70 < max(map(len, piped("80", "swin*"))) <= 80
    assert 100 < max(map(len, piped("120", "swin*"))) <= 120
    assert max(map(len, piped("0", "resnet8*"))) <= 150


def test_wide_shows_all_columns_however_narrow_it_is() -> None:
    assert "of float" in piped("40", "resnet8*", "--wide")[0]


def test_json_holds_everything() -> None:
    rows = json.loads(qzoo("resnet8_digits*", "--sort", "size", "--json", "-").output)
    assert rows[0]["name"] == "resnet8_digits_w2a2_opt"
    computed = set(ZooRow.model_computed_fields)
    assert all(row.keys() == set(ZooRow.model_fields) | computed for row in rows)
    assert ZooRow.model_validate({key: value for key, value in rows[0].items() if key not in computed}).drop is not None


def test_what_nothing_matches_is_told_as_it_was_asked_for() -> None:
    output = qzoo("res*", "--max-size", "0.001", "--target", "openvino", "--pretrained").output
    assert "Nothing matches 'res*' --max-size 0.001 --target openvino --pretrained." in output


@for_each(
    "arguments, text",
    [
        (["--target", "tensort"], "Did you mean 'tensorrt'?"),
        (["--sort", "tpo1"], "There is no column 'tpo1'. Did you mean 'top1'?"),
        (["--dataset", "imagenet"], "Did you mean 'imagenet-1k'?"),
        (["--min-top1", "761"], "give percent, from 0 to 100"),
    ],
)
def test_wrong_filters_are_told(arguments: list[str], text: str) -> None:
    result = qzoo(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def test_sizes_that_are_not_known_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_RECIPES", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(MINE)
    assert "Sizes and costs are not known yet: mine. --facts computes them." in qzoo("mine*").output
    computed = qzoo("mine*", "--facts").output
    assert "0.079" in computed
    assert "not known" not in computed
    assert "0.079" in qzoo("mine*").output
