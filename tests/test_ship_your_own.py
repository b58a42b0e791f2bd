"""The page docs/ship-your-own.md runs as it is written, from top to bottom."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.models import own_models

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ship-your-own.md"
COMMANDS = "## A recipe, so that every figure is a command"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(own_models, "_registered", {})
    # Batches are the same, and starting processes for 300 pictures takes longer than all else.
    monkeypatch.setattr("qzoo.tasks.inputs.images.default_workers", lambda _: 0)
    yield
    sys.modules.pop("digit_net", None)


def run_page(text: str) -> None:
    """Runs the blocks of a page one after the other, as one session; a block that begins with a file's name is it."""
    session: dict[str, object] = {}
    for language, block in re.findall(r"^```(python|bash)\n(.*?)^```", text, flags=re.S | re.M):
        if language == "bash":
            shell(block)
        elif title := re.match(r"# (\w+\.py)\n", block):
            Path(title[1]).write_text(block)
        else:
            exec(compile(block, PAGE.name, "exec"), session)


def shell(block: str) -> None:
    """Runs a block as a shell does, but for `qzoo`, which runs in this process."""
    for is_qzoo, lines in groupby(block.splitlines(), lambda line: line.startswith("qzoo ")):
        if not is_qzoo:
            subprocess.run(["bash", "-c", "\n".join(lines)], check=True)
            continue
        for line in lines:
            result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"


def test_what_it_does_in_python() -> None:
    before, _, after = PAGE.read_text().partition(COMMANDS)
    assert after
    run_page(before)


@pytest.mark.runtimes  # its last commands need one
def test_the_whole_page() -> None:
    run_page(PAGE.read_text())
