"""`qzoo finetune`, killed and interrupted: the checkpoint is whole, and the run goes on to the same end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import equal
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.training.checkpoint import CHECKPOINT, CheckpointInfo
from qzoo.weights.artifact import read_artifact

EVERY = 3
OPTIONS = ["--epochs", "4", "--lr", "0.01", "--batch-size", "64", "--checkpoint-every", f"{EVERY}"]
MODEL = Path("artifacts") / "resnet8_digits_w4a8_tuned.model.safetensors"


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qzoo", "finetune", "resnet8_digits_w4a8", *OPTIONS, "-o", str(folder), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "QZOO_HOME": str(folder.parent / "home")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(folder: Path) -> int:
    """Of the checkpoint that a killed run left, which has to be whole; 0 where there is none."""
    path = folder / "checkpoint.safetensors"
    return read_artifact(path, CHECKPOINT, CheckpointInfo)[1].step if path.is_file() else 0


def reached(folder: Path) -> int:
    """The same of a run that goes on: the header alone, from one opened file, which the run may replace meanwhile."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return int(json.loads(header["__metadata__"]["info"])["step"])


def wait_for(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while reached(folder) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def killed_again_and_again(folder: Path, times: int) -> None:
    dice = random.Random(0)
    for _ in range(times):
        before = steps(folder)
        process = start(folder, "--resume")
        if before < 60:
            wait_for(folder, before + EVERY, process)
        time.sleep(dice.random() / 4)
        process.kill()
        process.communicate()
        assert steps(folder) >= before
        assert steps(folder) % EVERY == 0
    process = start(folder, "--resume")
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr


def undisturbed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In this process: starting another takes longer than the training."""
    monkeypatch.setenv("QZOO_HOME", str(folder.parent / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = CliRunner().invoke(app, ["finetune", "resnet8_digits_w4a8", *OPTIONS, "-o", str(folder)])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    return folder


def same(one: Path, other: Path) -> bool:
    mine, yours = load_file(one / MODEL), load_file(other / MODEL)
    return mine.keys() == yours.keys() and all(equal(mine[key], yours[key]) for key in mine)


@pytest.mark.slow
def test_killed_once_and_interrupted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(folder, 2 * EVERY, process)
    process.kill()
    process.communicate()
    kept = steps(folder)
    assert kept >= 2 * EVERY
    process = start(folder, "--resume")
    wait_for(folder, kept + EVERY, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "with --resume goes on from it" in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    process = start(folder, "--resume")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "resnet8_digits_w4a8_tuned: top-1" in stdout
    assert same(folder, undisturbed(tmp_path / "whole", monkeypatch))


@pytest.mark.slow
def test_killed_at_eight_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_again_and_again(tmp_path / "run", times=8)
    assert same(tmp_path / "run", undisturbed(tmp_path / "whole", monkeypatch))
