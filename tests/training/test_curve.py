"""Rows of a run's curve: what they are means of, when they are made, and the file they are kept in."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.training import curve as module
from qzoo.training.curve import ROWS_A_RUN, Curve

STEPS = st.lists(st.tuples(st.floats(0, 10, width=32), st.integers(1, 64)), min_size=1, max_size=12)


def add(curve: Curve, loss: float, images: int) -> None:
    curve.add(torch.tensor(loss), torch.tensor(images // 2), images)


@given(STEPS)
def test_a_row_is_the_mean_over_images(steps: list[tuple[float, int]]) -> None:
    curve = Curve(len(steps), 1)
    for loss, images in steps:
        add(curve, loss, images)
    curve.close_row(len(steps), lr=0.1)
    (row,), images = curve.rows, sum(images for _, images in steps)
    assert row.loss == pytest.approx(sum(loss * count for loss, count in steps) / images)
    assert row.train_top1 == pytest.approx(100 * sum(count // 2 for _, count in steps) / images, abs=1e-4)
    assert (row.step, row.epoch, row.lr, row.top1) == (len(steps), 1.0, 0.1, None)
    assert curve.pending == (0.0, 0, 0)


@given(STEPS, st.integers(0, 12))
def test_what_is_pending_goes_on_elsewhere(steps: list[tuple[float, int]], cut: int) -> None:
    whole, first, second = (Curve(len(steps), 1) for _ in range(3))
    for number, (loss, images) in enumerate(steps):
        add(whole, loss, images)
        add(first if number < cut else second, loss, images)
    first.settle()
    # As a checkpoint hands it over, before the steps that follow.
    loss, images, correct = first.pending
    assert (type(loss), type(images), type(correct)) == (float, int, int)
    second.pending = first.pending
    for curve in (whole, second):
        curve.close_row(len(steps), 0.1)
    assert whole.rows == second.rows


def test_without_a_step_a_row_has_no_division_by_zero() -> None:
    curve = Curve(4, 1)
    curve.close_row(1, lr=0.1)
    assert (curve.rows[0].loss, curve.rows[0].train_top1, curve.rows[0].epoch) == (0.0, 0.0, 0.25)


def test_many_steps_lose_no_digit_in_the_sum() -> None:
    curve = Curve(1000, 1)
    for _ in range(1000):
        curve.add(torch.tensor(0.1), torch.tensor(200), 257)
    curve.close_row(1000, 0.1)
    assert curve.rows[0].loss == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)
    assert curve.rows[0].train_top1 == pytest.approx(100 * 200 / 257, abs=1e-4)


@given(st.integers(1, 2000), st.integers(1, 100))
def test_each_epoch_ends_with_a_row(steps: int, epochs: int) -> None:
    curve = Curve(steps, epochs)
    due = [step for step in range(1, steps + 1) if curve.is_due(step)]
    assert due[-1] == steps
    assert len(due) * epochs <= 2 * ROWS_A_RUN + 2 * epochs
    # All epochs have rows at the same places.
    assert due == [step for step in range(1, steps + 1) if curve.is_due(step + steps)]


def test_the_file_has_all_rows_and_is_replaced(tmp_path: Path) -> None:
    curve = Curve(2, 1, tmp_path)
    for step in (1, 2):
        add(curve, step / 4, 8)
        curve.close_row(step, lr=0.1 / step, top1=None if step == 1 else 97.5)
        curve.write()
        rows = list(csv.DictReader((tmp_path / "training.csv").read_text().splitlines()))
        assert len(rows) == step
    assert rows[0] == {"step": "1", "epoch": "0.5", "lr": "0.1", "loss": "0.25", "train_top1": "50.0", "top1": ""}
    assert rows[1] == {"step": "2", "epoch": "1.0", "lr": "0.05", "loss": "0.5", "train_top1": "50.0", "top1": "97.5"}
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    curve = Curve(1, 1)
    add(curve, 1.0, 8)
    curve.close_row(1, 0.1, 50.0)
    curve.write()
    curve.close()
    assert [*tmp_path.iterdir()] == []


class Board:
    def __init__(self) -> None:
        self.shown: list[tuple[str, float, int]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.shown.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_sees_each_number_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board: Any = Board()
    monkeypatch.setattr(module, "_board", lambda folder: board)
    curve = Curve(2, 1, tmp_path)
    for step, top1 in ((1, None), (2, 75.0)):
        add(curve, 0.5, 8)
        curve.close_row(step, 0.1, top1)
    assert board.shown == [
        ("lr", 0.1, 1), ("loss", 0.5, 1), ("train_top1", 50.0, 1),
        ("lr", 0.1, 2), ("loss", 0.5, 2), ("train_top1", 50.0, 2), ("top1", 75.0, 2),
    ]  # fmt: skip
    curve.close()
    assert board.closed


@pytest.mark.parametrize(("steps", "epochs"), [(10, 1), (390, 8), (10_009, 90)])
def test_a_run_has_about_as_many_rows_as_a_picture_shows(steps: int, epochs: int) -> None:
    curve = Curve(steps, epochs)
    due = sum(curve.is_due(step) for step in range(1, steps * epochs + 1))
    assert min(steps, 90) <= due <= 270
