"""Names out of files of anybody, as the commands print them: nothing is markup, nothing is obeyed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.cli.terminal.console import _Console, labelled, write_json

QZOO = Path(__file__).parents[3] / "qzoo"
EVIL = "a\x1b[31mb\x00c\u202ed\rE\x9b2Jf\x07g\u2066[red]h[/]"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
QUOTED = json.dumps(EVIL)


def printed(*what: object, width: int = 200) -> str:
    file = io.StringIO()
    console = _Console(file=file, width=width, emoji=False, highlight=False, markup=False)
    for one in what:
        console.print(one)
    return file.getvalue()


def test_every_way_of_printing_shows_and_obeys_nothing() -> None:
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    output = printed(EVIL, Text(EVIL), labelled("word", "red", f" {EVIL}"), table)
    assert not OBEYED.search(output)
    assert output.count(r"a\x1b[31mb\x00c\u202ed") == 6
    assert output.count("[red]h[/]") == 6


def test_columns_of_a_table_stay_under_each_other() -> None:
    table = Table(box=None)
    table.add_column("name")
    table.add_column("figure")
    table.add_row("\u202e" * 3, "1")
    table.add_row("plain", "1")
    first, *rows = printed(table).splitlines()
    assert {row.index("1 ") if "1 " in row else len(row.rstrip()) - 1 for row in rows} == {first.index("figure")}


def test_colors_of_our_own_stay() -> None:
    file = io.StringIO()
    console = _Console(file=file, width=80, force_terminal=True, color_system="standard", markup=False)
    console.print(labelled("error", "red", f" {EVIL}"))
    assert file.getvalue().startswith("\x1b[31merror\x1b[0m a\\x1b[31mb")


def test_json_is_exact_and_shows_nothing_that_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    # As Pydantic writes it: without escapes of what is not ASCII.
    write_json(json.dumps({"name": f"{EVIL}é\U000e0001"}, ensure_ascii=False), "-")
    output = capsys.readouterr().out
    assert not OBEYED.search(output)
    assert json.loads(output) == {"name": f"{EVIL}é\U000e0001"}


RECIPE = f"""\
description: {QUOTED}
base: {{source: qzoo, architecture: resnet8_digits}}
dataset: digits
published: {{top1: 10.0, source: {QUOTED}}}
variants:
  int8:
    description: {QUOTED}
    rules:
      - {{match: {{name: {QUOTED}}}, input: false, why: {QUOTED}}}
"""
FAULTS = {
    "name": RECIPE.replace("  int8:", f"  {QUOTED}:"),
    "key": RECIPE.replace("rules:", f"{QUOTED}: 1\n    rules:"),
    "architecture": RECIPE.replace("resnet8_digits", QUOTED),
    "source": RECIPE.replace("source: qzoo", f"source: {QUOTED}"),
    "dataset": RECIPE.replace("dataset: digits", f"dataset: {QUOTED}"),
    "split": RECIPE.replace("variants:", f"calibration: {{split: {QUOTED}}}\nvariants:"),
    "scheme": RECIPE.replace("variants:", f"scheme: {QUOTED}\nvariants:"),
    "from": RECIPE.replace("rules:", f"from: {QUOTED}\n    rules:"),
    "calibrator": RECIPE.replace("rules:", f"input: {{calibrator: {QUOTED}}}\n    rules:"),
    "residual": RECIPE.replace("rules:", f"residual: {QUOTED}\n    rules:"),
    "type": RECIPE.replace("match: {name:", "match: {type:"),
    "operator": RECIPE.replace("match: {name:", "match: {op:"),
    "finetune": RECIPE.replace("rules:", f"finetune: {{epochs: 1, lr: 1, scales: {QUOTED}}}\n    rules:"),
    "tag": RECIPE.replace("digits\npub", "!!\u202e x\npub"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_messages_on_recipes(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FAULTS[fault], encoding="utf-8")
    for command in (
        ["validate", str(path)],
        ["show", f"{path}:int8"],
        ["explain", f"{path}:int8"],
        ["show", str(path)],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert not OBEYED.search(result.output.replace("\x1b[0m", ""))
        assert len(result.output) < 10_000
        # No line of ours begins inside a name.
        assert not any(line.startswith("E\\x9b") for line in result.output.splitlines())
    checked = CliRunner().invoke(app, ["validate", str(path), "--json", "-"])
    assert checked.exit_code == 2
    assert json.loads(checked.output)[0]["problems"]
    assert not OBEYED.search(checked.output)


def test_a_line_break_in_a_name_makes_no_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    name = json.dumps("conv9\nok other.yaml: 3 variants\n")
    for text in (
        f"rules: [{{match: {{name: {name}}}, input: false}}]",
        f"{name}: 1",
        f"from: {name}",
        f"scheme: {name}",
    ):
        path.write_text(
            f"base: {{source: qzoo, architecture: resnet8_digits}}\ndataset: digits\nvariants: {{int8: {{{text}}}}}"
        )
        for command in (["validate", str(path)], ["show", f"{path}:int8"]):
            assert "\nok other" not in CliRunner().invoke(app, command).output


def test_what_is_shown_as_yaml_reads_back(tmp_path: Path) -> None:
    from qzoo.schema.reading.loading import parse_recipe

    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    shown = CliRunner().invoke(app, ["show", str(path)]).output
    lines = [line.rstrip() for line in shown.splitlines() if not line.startswith("#")]
    assert parse_recipe("\n".join(lines)).description == EVIL


def test_keys_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({f"{EVIL}.weight": torch.ones(1), f"layer\n{'x' * 100_000}": torch.ones(1)}, path)
    result = CliRunner().invoke(app, ["import", str(path), "--as", "resnet8_digits_int8"])
    assert result.exit_code == 2
    assert not OBEYED.search(result.output)
    assert len(result.output) < 20_000


def test_styles_are_no_markup() -> None:
    """In a text with markup, names of files would be markup too: `labelled`, or a rich `Text`, has styles."""
    markup = re.compile(r"\[/?(bold|dim|red|green|yellow|/)[ a-z]*\]|\[\{\w+\}\]\{|markup=True")
    found = [
        f"{path.name}: {line.strip()}"
        for folder in ("cli", "report")
        for path in (QZOO / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if markup.search(line)
    ]
    assert not found
