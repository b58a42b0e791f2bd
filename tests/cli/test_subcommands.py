from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import typer
from typer.testing import CliRunner

import qzoo.cli
from qzoo.cli.main import app
from qzoo.cli.subcommands import SUBCOMMANDS

NO_COMMANDS = {"__init__", "main", "subcommands"}


def test_every_file_is_a_subcommand_and_every_subcommand_a_file() -> None:
    files = {path.stem for path in Path(str(qzoo.cli.__file__)).parent.glob("*.py")} - NO_COMMANDS
    assert files == {entry.module for entry in SUBCOMMANDS.values()}
    assert all(callable(import_module(f"qzoo.cli.{file}").run) for file in files)


def test_help_names_every_subcommand_and_fits_a_terminal() -> None:
    lines = CliRunner().invoke(app, ["--help"]).output.splitlines()
    assert set(SUBCOMMANDS) <= {line.split()[0] for line in lines if line.startswith("  ")}
    assert max(map(len, lines)) <= 80


def test_help_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from qzoo.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "loaded = {'torch', 'pydantic', 'yaml', 'rich.markdown', 'qzoo.schema', 'qzoo.cli.show'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_slip_is_told_with_the_nearest_name() -> None:
    result = CliRunner().invoke(app, ["lsit"])
    assert result.exit_code == 2
    assert "No such command 'lsit'. Did you mean 'list'" in result.output


def test_all_that_take_the_name_of_a_model_take_the_code_of_ones_own() -> None:
    names = {name for name, entry in SUBCOMMANDS.items() if entry.models}
    assert set(SUBCOMMANDS) - names == {"list", "zoo", "doctor", "lint", "pull"}
    for name in SUBCOMMANDS:
        options = {option for one in typer.main.get_command(app).commands[name].loaded.params for option in one.opts}  # type: ignore[attr-defined]
        assert ("--model" in options) == (name in names), name
        assert "--json-file" not in options, name


def test_code_that_was_not_needed_is_told_of() -> None:
    result = CliRunner().invoke(app, ["show", "resnet8_digits_int8", "--model", "json:loads"])
    assert result.exit_code == 0
    assert "note: --model was not needed: no base of `source: python` was made." in result.output
