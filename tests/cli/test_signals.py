"""Signals: one message, everything that can be is saved, and the exit code is 128 and the signal's number."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qzoo.training.checkpoint import CHECKPOINT, CheckpointInfo
from qzoo.weights.artifact import read_artifact

FINETUNE = [
    "finetune", "resnet8_digits_w4a8", "--epochs", "60", "--lr", "0.01", "--batch-size", "64",
    "--checkpoint-every", "2",
]  # fmt: skip
AS_A_SHELL = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from qzoo.cli import main; main()"
)
NAMES = ("SIGTERM", "SIGHUP", "SIGINT")


def start(arguments: list[str], folder: Path, *before: str) -> subprocess.Popen[str]:
    """Starts a command in a group of its own, as a shell does; in the background Ctrl-C would be ignored."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", AS_A_SHELL, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "QZOO_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists(), process.communicate()


PROGRESS = re.compile(r"note:|images/s|: [\d,]+ of [\d,]+ images|: waiting for the first| \.\.\.$|: [\d.]+ s$")
"""In lines that tell how far work is: on a busy machine there are more of them."""


def messages(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not PROGRESS.search(line)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workers"), [("SIGINT", "0"), ("SIGINT", "2"), ("SIGTERM", "2"), ("SIGHUP", "0")])
def test_a_training_saves_itself_and_says_so_once(name: str, workers: str, tmp_path: Path) -> None:
    run, number = tmp_path / "run", signal.Signals[name]
    process = start([*FINETUNE, "-o", str(run), "--workers", workers], tmp_path)
    wait_for(run / "checkpoint.safetensors", process)
    os.killpg(process.pid, number)  # as a scheduler or a terminal does it: workers get it too
    out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number, err
    assert out == ""
    (message,) = messages(err)
    by = "" if name == "SIGINT" else f" by {name}"
    saved = f"The run is saved in {run}/checkpoint.safetensors; the same command with --resume goes on from it."
    assert message == f"Interrupted{by}. {saved}"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    assert read_artifact(run / "checkpoint.safetensors", CHECKPOINT, CheckpointInfo)[1].step > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_other_commands_end_at_once(name: str, tmp_path: Path) -> None:
    number = signal.Signals[name]
    process = start(["sensitivity", "resnet8_digits_int8", "--json", str(tmp_path / "s.json")], tmp_path)
    assert process.stderr is not None
    said = process.stderr.readline()  # it works
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number, said + err
    (message,) = messages(err)
    assert message.endswith("Files that were finished are kept; nothing is half-written.")
    assert not (tmp_path / "s.json").exists()


@pytest.mark.slow
def test_under_nohup_a_training_outlives_its_terminal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start([*FINETUNE, "-o", str(run)], tmp_path, "nohup")
    wait_for(run / "checkpoint.safetensors", process)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode == 143
