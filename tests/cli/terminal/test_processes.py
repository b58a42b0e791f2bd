"""`torchrun -m qzoo`: one process speaks and writes, results are those of one process, and all end together."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from qzoo.cli.main import app

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
FAILING = str(Path(__file__).with_name("failing_in_one_process.py"))
QZOO = ["-m", "qzoo"]


def python(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | changes
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=110
    )


@pytest.fixture
def one_process() -> Iterator[Callable[..., Result]]:
    """Runs a command here, with one thread as torchrun gives: sums of floats depend on how threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda *arguments: CliRunner().invoke(app, list(arguments))
    torch.set_num_threads(threads)


def exit_codes(text: str) -> set[str]:
    """Of the processes, in the summary of torchrun, which itself exits with 1 where any is not 0."""
    return set(re.findall(r"exitcode\s*: (-?\d+)", text)) - {"-15"}


@pytest.mark.slow
def test_calibrate_writes_the_files_of_one_process_and_prints_once(
    tmp_path: Path, one_process: Callable[..., Result]
) -> None:
    # 512 images in 6 batches, the last one smaller.
    command = ["calibrate", "resnet8_digits", "--batch-size", "100", "-o"]
    alone = one_process(*command, str(tmp_path / "1"))
    together = python(*TORCHRUN, *QZOO, *command, str(tmp_path / "2"))
    assert together.returncode == 0, together.stderr
    assert len(together.stdout.splitlines()) == len(alone.stdout.splitlines()) == 8
    assert "int8: 17 ranges from 512 images" in together.stdout
    assert together.stderr.count("calibrating in 1 of 2 processes") == 1
    files = sorted((tmp_path / "1").iterdir())
    assert [file.name for file in files] == sorted(file.name for file in (tmp_path / "2").iterdir())
    for file in files:
        one, two = load_file(file), load_file(tmp_path / "2" / file.name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), file.name


@pytest.mark.slow
def test_reproduce_reports_the_figures_of_one_process(one_process: Callable[..., Result]) -> None:
    command = ["reproduce", "--only", "w4a4", "--json", "-"]
    alone = json.loads(one_process(*command).stdout)
    together = json.loads(python(*TORCHRUN, *QZOO, *command).stdout)
    for row in (*alone["rows"], *together["rows"]):
        row["seconds"] = 0
    assert together["rows"] == alone["rows"]
    assert together["calibration"] == alone["calibration"]
    assert (alone["environment"]["processes"], together["environment"]["processes"]) == (1, 2)


def test_evaluate_prints_one_line_with_fewer_batches_than_processes(tmp_path: Path) -> None:
    command = [*QZOO, "evaluate", "resnet8_digits_int8", "--eval-images", "50", "--json", str(tmp_path / "e.json")]
    done = python(*TORCHRUN, *command)
    assert done.stdout.splitlines() == [line for line in done.stdout.splitlines() if "on 50 images" in line]
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 50
    assert [file.name for file in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("data", "2", "error The process of rank 1 failed: b.png is damaged. Replace it."),
        pytest.param(
            "bug",
            "3",
            "ZeroDivisionError: a slip\nThis is a bug in qzoo. Please report the lines above.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_error_in_one_process_ends_all_with_one_message(kind: str, code: str, text: str) -> None:
    start = time.perf_counter()
    done = python(*TORCHRUN, FAILING, kind, "evaluate", "resnet8_digits_int8")
    assert done.returncode == 1
    assert exit_codes(done.stderr) == {code}
    assert done.stderr.count(text) == 1
    assert done.stdout == ""
    assert time.perf_counter() - start < 60


@pytest.mark.slow
def test_a_killed_process_leaves_none_waiting() -> None:
    done = python(*TORCHRUN, FAILING, "killed", "evaluate", "resnet8_digits_int8")
    assert "9" in exit_codes(done.stderr)
    assert done.stderr.count("ended without a word") <= 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["evaluate", "resnet8_digits_int9"], "error Unknown model 'resnet8_digits_int9'. Did you mean"),
        (["evaluate", "resnet8_digits_int8", "--bogus"], "No such option: --bogus"),
    ],
)
def test_a_mistake_of_all_is_told_once(arguments: list[str], text: str) -> None:
    done = python(*TORCHRUN, *QZOO, *arguments)
    assert done.stderr.count(text) == 1
    assert exit_codes(done.stderr) == {"2"}


def test_processes_that_do_not_find_each_other() -> None:
    done = python(*QZOO, "evaluate", "resnet8_digits_int8", WORLD_SIZE="2", RANK="0")
    assert done.returncode == 2
    assert re.search(
        r"WORLD_SIZE=2 and RANK=0 are set, but the processes don't find each other: .*MASTER_ADDR.*"
        r"Start with `torchrun --nproc-per-node=N -m qzoo \.\.\.`, or unset WORLD_SIZE",
        done.stderr,
        flags=re.S,
    )
    listed = python(*QZOO, "list", "resnet8*", WORLD_SIZE="2", RANK="1")
    assert "resnet8_digits" in listed.stdout
