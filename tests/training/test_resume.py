"""A run that was interrupted ends bit for bit where an undisturbed one does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qzoo.errors import TrainingError, WeightsError
from qzoo.tasks.training_run import CHECKPOINT_FILE
from qzoo.training.checkpoint import CHECKPOINT, CheckpointInfo
from qzoo.weights.artifact import read_artifact
from tests.training.conftest import STEPS, with_dropout

SCHEDULES: dict[str, dict[str, Any]] = {
    "learned, distilled": {"scales": {"init": "lsq"}, "distill": {"weight": 0.5}, "warmup_epochs": 0.5},
    "adamw, averaged": {"optimizer": "adamw", "lr": 1e-3, "ema": 0.9, "clip_gradient": 1.0, "freeze_bn_epoch": 1},
    "dropout": {"model": with_dropout, "label_smoothing": 0.1, "schedule": "step", "step_epochs": 1},
}


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[key], yours[key]) for key in mine)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stop", [STEPS + 7, pytest.param(2 * STEPS, marks=pytest.mark.slow)])
def test_the_result_is_the_same(trains: Callable[..., Any], schedule: str, stop: int, tmp_path: Path) -> None:
    train = trains(**SCHEDULES[schedule])
    whole, expected = train(tmp_path / "whole")
    assert train(tmp_path / "parts", stop=stop) is None
    resumed, report = train(tmp_path / "parts", resume=True)
    assert same(whole, resumed)
    assert (report.rows, report.top1) == (expected.rows, expected.top1)
    assert (report.resumed, report.start_top1) == (1, expected.start_top1)


def test_another_seed_is_another_run(trains: Callable[..., Any], tmp_path: Path) -> None:
    (one, _), (again, _), (other, _) = (
        trains(epochs=1, seed=seed)(tmp_path / f"{n}") for n, seed in enumerate((0, 0, 1))
    )
    assert same(one, again)
    assert not same(one, other)


def test_a_finished_run_resumes_to_itself(trains: Callable[..., Any], tmp_path: Path) -> None:
    train = trains(epochs=1)
    one, report = train(tmp_path / "run")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        CHECKPOINT_FILE,
        "training.csv",
        "training.png",
    ]
    again, repeated = train(tmp_path / "run", resume=True)
    assert same(one, again)
    assert repeated.rows == report.rows


def test_an_interrupt_loses_no_step(trains: Callable[..., Any], tmp_path: Path) -> None:
    assert trains()(tmp_path / "run", stop=5) is None
    _, info = read_artifact(tmp_path / "run" / CHECKPOINT_FILE, CHECKPOINT, CheckpointInfo)
    assert info.step == 5
    assert (tmp_path / "run" / "training.csv").read_text().count("\n") == 1 + len(info.rows)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"lr": 0.5}, "finetune.lr differ"), ({"epochs": 9, "seed": 3}, "finetune.epochs, finetune.seed differ")],
)
def test_other_options_are_another_run(
    trains: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    assert trains()(tmp_path / "run", stop=3) is None
    with pytest.raises(TrainingError, match=f"is a checkpoint of another run: {named}") as caught:
        trains(**changes)(tmp_path / "run", resume=True)
    assert "or leave out --resume to start anew" in str(caught.value)


def test_a_damaged_checkpoint_is_refused(trains: Callable[..., Any], tmp_path: Path) -> None:
    assert trains()(tmp_path / "run", stop=3) is None
    path = tmp_path / "run" / CHECKPOINT_FILE
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is corrupt"):
        trains()(tmp_path / "run", resume=True)
