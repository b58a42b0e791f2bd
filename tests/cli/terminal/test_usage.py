"""`--json` with a file and without, `-h`, exit codes, and mistakes in what is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from qzoo import environment
from qzoo.cli.main import app
from qzoo.cli.subcommands import EXIT_CODES, SUBCOMMANDS
from qzoo.cli.terminal.usage import with_json_file
from tests.each import for_each

NAME = "resnet8_digits_int8"
DOCS = Path(__file__).resolve().parents[3] / "docs" / "cli.md"
NEEDED = {"lint": ["a.onnx"], "import": ["a.pth", "--as", NAME], "push": [NAME, "me/x"], "list": [], "doctor": []}
"""What has to be typed for a command besides `--json`, if not the name of a variant."""
GROUP: Any = typer.main.get_command(app)


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def loaded(command: str) -> Any:
    return GROUP.commands[command].loaded


def needed(command: str) -> list[str]:
    runtime = [one for one in loaded(command).params if one.name == "runtime" and one.required]
    return [*NEEDED.get(command, [NAME]), *(["--runtime", "onnxruntime"] if runtime else [])]


def test_a_word_after_json_is_a_file_only_where_it_can_be_nothing_else() -> None:
    assert with_json_file(["x", "--json"]) == ["x", "--json=-"]
    assert with_json_file(["--json", "-", "x"]) == ["--json=-", "x"]
    assert with_json_file(["--json", "--top", "3"]) == ["--json=-", "--top", "3"]
    assert with_json_file(["--json", "a/b.json", "x"]) == ["--json=a/b.json", "x"]
    assert with_json_file(["--json", "/dev/stdout"]) == ["--json=/dev/stdout"]
    assert with_json_file(["--json", "mine.yaml"]) == ["--json=-", "mine.yaml"]
    assert with_json_file(["--json=any", "y"]) == ["--json=any", "y"]
    assert with_json_file(["--json", "--json"]) == ["--json=-", "--json=-"]
    assert with_json_file(["--", "--json", "a.json"]) == ["--", "--json", "a.json"]


def test_every_command_that_has_json_takes_it_alone_and_with_a_file() -> None:
    having = [name for name in SUBCOMMANDS if any("--json" in one.opts for one in loaded(name).params)]
    assert len(having) >= 16
    for name in having:
        for words, meant in ((["--json"], "-"), (["--json", "a.json"], "a.json"), (["--json", "-"], "-")):
            for typed in ([*needed(name), *words], [*words, *needed(name)]):
                context = GROUP.commands[name].make_context(name, list(typed))
                assert context.params["json_file"] == meant, (name, typed)


@for_each(
    "arguments",
    [["list", "resnet8*"], ["show", NAME], ["explain", NAME], ["validate", "resnet8_digits"], ["doctor"]],
)
def test_json_alone_prints_nothing_else(arguments: list[str]) -> None:
    assert json.loads(qzoo(*arguments, "--json").stdout)
    assert json.loads(qzoo(arguments[0], "--json", *arguments[1:]).stdout)


@pytest.mark.slow
@for_each(
    "arguments",
    [
        ["evaluate", NAME, "--eval-images", "8"],
        ["check", NAME, "--images", "16"],
        ["sensitivity", NAME, "--eval-images", "8", "--calib-images", "8"],
        ["optimize", "resnet8_digits_w2a2_opt", "--calib-images", "8"],
        ["reproduce", "resnet8_digits", "--only", "int8", "--eval-images", "8", "--calib-images", "8"],
        ["verify", NAME],
        ["finetune", "resnet8_digits_w2a2_qat", "--epochs", "1", "--train-images", "128", "--eval-images", "8"],
        ["export", NAME, "-r", "onnxruntime", "--images", "1"],
        ["benchmark", NAME, "-r", "onnxruntime", "--batch", "1"],
        ["push", NAME, "me/x", "--dry-run", "--weights", "none"],
    ],
)
def test_json_alone_prints_nothing_else_after_long_work(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(qzoo(*arguments, "--json").stdout)


def test_a_recipe_is_never_taken_for_the_file_of_json(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("nonsense: true\n")
    assert qzoo("reproduce", "--json", str(recipe)).exit_code == 2
    assert recipe.read_text() == "nonsense: true\n"


def test_short_help_everywhere() -> None:
    assert qzoo("-h").output == qzoo("--help").output
    for command in SUBCOMMANDS:
        assert "-h" in loaded(command).context_settings["help_option_names"]
    assert qzoo("evaluate", "-h").output == qzoo("evaluate", "--help").output


def test_exit_codes_are_told_in_the_help_and_in_the_docs() -> None:
    told = " ".join(qzoo("--help").output.split())
    docs = DOCS.read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in told
        assert f"| {code} | {meaning}" in docs


def test_the_docs_have_the_environment_variables() -> None:
    rows = [line.split("|")[1:3] for line in str(environment.__doc__).splitlines() if line.startswith("| `QZOO")]
    assert len(rows) == 4
    told = [" ".join(line.split()) for line in DOCS.read_text().splitlines()]
    assert all(f"| {name.strip()} | {meaning.strip()} |" in told for name, meaning in rows)


@for_each(
    ("typed", "text"),
    [
        (["evalute", NAME], "No such command 'evalute'. Did you mean 'evaluate'"),
        (["evaluate", NAME, "--evl-images", "3"], "No such option: --evl-images. Did you mean '--eval-images'?"),
        (["evaluate", NAME, "--quick"], "No such option: --quick. Known: --adapt, --batch-size,"),
        (["evaluate"], "Missing argument 'name': A base, a variant with ranges, or a recipe file."),
        (["export", NAME], "Missing option '--runtime' / '-r': tensorrt, onnxruntime or openvino."),
        (["evaluate", NAME, "--eval-images", "few"], "unable to parse string as an integer (given: 'few')"),
        (["evaluate", NAME, "--eval-images=0"], "greater than or equal to 1 (given: '0')"),
        (["evaluate", NAME, "--data"], "Option '--data' requires an argument."),
        (["export", NAME, "-r", "tensorrt", "--rest", "fp8"], "'--rest': 'fp8' is not one of 'fp32', 'fp16'"),
        (["evaluate", NAME, "--json", "report"], "A FILE after --json ends with .json; one of another name: --json="),
    ],
)
def test_mistakes_say_what_was_given_and_what_is_meant(typed: list[str], text: str) -> None:
    result = qzoo(*typed)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())
    assert "Traceback" not in result.output
