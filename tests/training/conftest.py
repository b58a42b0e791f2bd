"""Digits to train on, and runs that are interrupted on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import qzoo
from qzoo.data import open_split
from qzoo.results.training import TrainingReport
from qzoo.tasks.finetune import finetune
from qzoo.tasks.training_run import Run

STEPS = 18
"""Batches of an epoch."""


def digits(name: str = "train") -> tuple[Tensor, Tensor]:
    split = open_split("digits", name)
    return (split.images[torch.arange(len(split))].float() / 255 - 0.5) / 0.5, split.labels


@pytest.fixture
def loader() -> Callable[[], Any]:
    return lambda: DataLoader(TensorDataset(*digits()), 64, shuffle=True, drop_last=True)


@pytest.fixture(autouse=True)
def _at_home(one_thread: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10)).eval()
    return qzoo.calibrate(qzoo.quantize(model, "w4a8"), [digits()[0]])


class Trains:
    """Trains a fresh model, interrupted at a step if told so."""

    def __init__(self, loader: Callable[[], Any], make: Callable[[], nn.Module], **spec: Any) -> None:
        self.loader, self.make, self.spec = loader, make, {"epochs": 3, "lr": 0.02, "schedule": "cosine"} | spec

    def __call__(self, folder: Path, stop: int | None = None, **run: Any) -> tuple[nn.Module, TrainingReport] | None:
        model, seen = self.make(), 0

        def progress(items: Iterable[Any], images: int | None, what: Any) -> Iterator[Any]:
            nonlocal seen
            for item in items:
                seen += 1
                if seen == stop:
                    os.kill(os.getpid(), signal.SIGINT)
                yield item

        teacher = qzoo.create("resnet8_digits", pretrained=True) if "distill" in self.spec else None
        try:
            report = finetune(
                model, self.loader(), evaluate_on=[digits("test")], teacher=teacher,
                run=Run(folder=folder, **run), progress=progress, **self.spec,
            )  # fmt: skip
        except KeyboardInterrupt:
            return None
        return model, report


@pytest.fixture
def trains(loader: Callable[[], Any]) -> Callable[..., Trains]:
    def make(model: str | Callable[[], nn.Module] = "resnet8_digits_w4a8", **spec: Any) -> Trains:
        return Trains(loader, model if callable(model) else lambda: qzoo.create(model, pretrained=True), **spec)

    return make
