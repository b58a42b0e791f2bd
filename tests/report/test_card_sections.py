from __future__ import annotations

import pytest

from qzoo.report.card_sections import training
from qzoo.results.training import LogRow, TrainingReport
from qzoo.schema.finetune import FinetuneSpec, schedule_rows
from tests.each import for_each
from tests.report.test_model_card import facts

SPEC = FinetuneSpec(epochs=50, lr=0.01)


def report(epochs: int = 50, seconds: float = 600, **environment: str | int) -> TrainingReport:
    rows = [LogRow(step=2 * n, epoch=n, lr=0.01, loss=1 / n, train_top1=90, top1=80 + n / 10)
            for n in range(1, epochs + 1)]  # fmt: skip
    between = LogRow(step=1, epoch=0.5, lr=0.01, loss=9.0, train_top1=10)
    return TrainingReport(
        name="net_int8_qat", recipe_sha256="a" * 64, finetune=SPEC, dataset="cifar10", images=50_000, steps_per_epoch=2,
        processes=1, start_top1=70.0, top1=85.0, eval_images=10_000, rows=[between, *rows], seconds=seconds, resumed=0,
        date="2026-11-25", environment=environment,
    )  # fmt: skip


def text(made: TrainingReport) -> str:
    from dataclasses import replace

    return "\n\n".join(training(replace(facts(), training=made)))


def test_a_model_that_was_only_calibrated_has_no_such_section() -> None:
    assert list(training(facts())) == []


@pytest.mark.parametrize(("epochs", "shown"), [(1, 1), (20, 20), (21, 11), (50, 17)])
def test_the_last_epoch_is_always_among_at_most_twenty(epochs: int, shown: int) -> None:
    lines = [line for line in text(report(epochs)).splitlines() if line.startswith("| ") and "| 90.00 |" in line]
    assert len(lines) == shown
    assert lines[-1].startswith(f"| {epochs} |")


@pytest.mark.parametrize(("seconds", "words"), [(63.4, "in 63 seconds"), (600, "in 10 minutes")])
def test_times_are_in_words(seconds: float, words: str) -> None:
    assert words in text(report(seconds=seconds))


def test_the_machine_is_named() -> None:
    assert "(AMD EPYC)" in text(report(device="cpu", cpu="AMD EPYC"))
    assert "(NVIDIA H100)" in text(report(device="NVIDIA H100", cpu="AMD EPYC"))


@for_each(
    ("fields", "what", "words"),
    [
        ({"schedule": "step", "step_epochs": 30}, "learning rate", "times 0.1 every 30 epochs"),
        ({"schedule": "cosine", "warmup_epochs": 1}, "learning rate", "to 0, after a warmup of 1 epochs"),
        ({"optimizer": "adamw"}, "optimizer", "adamw, weight decay 0.0001"),
        ({"scales": "learned"}, "ranges", "learned (LSQ, arXiv 1902.08153), from the calibrated ones"),
        ({"scales": {"init": "lsq"}}, "ranges", "from LSQ's own"),
        ({"distill": {}}, "distillation from the float model", "weight 0.5, temperature 4"),
        ({"ema": 0.99}, "moving average of the model, decay", "0.99"),
        ({"freeze_bn_epoch": 0}, "running statistics of batch norm frozen from epoch", "0"),
        ({"precision": "bfloat16"}, "precision", "bfloat16"),
        ({"transform": "eval"}, "images", "as for evaluation"),
    ],
)
def test_the_schedule_in_words(fields: dict[str, object], what: str, words: str) -> None:
    rows = dict(schedule_rows(FinetuneSpec.model_validate({"epochs": 1, "lr": 1e-3} | fields)))
    assert words in rows[what]


def test_what_is_not_said_is_not_told() -> None:
    assert len(schedule_rows(SPEC)) == 5
