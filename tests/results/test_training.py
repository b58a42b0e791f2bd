from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qzoo.results.training import LogRow, TrainingReport, rows_as_csv
from qzoo.schema.finetune import FinetuneSpec

FINITE = st.floats(0, 1e6)
ROWS = st.builds(
    LogRow, step=st.integers(0, 10**6), epoch=FINITE, lr=FINITE, loss=FINITE, train_top1=st.floats(0, 100),
    top1=st.none() | st.floats(0, 100),
)  # fmt: skip
COLUMNS = ["step", "epoch", "lr", "loss", "train_top1", "top1"]


def report(rows: list[LogRow]) -> TrainingReport:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.1, "scales": {"init": "lsq"}, "distill": {}})
    fields: dict[str, Any] = {
        "name": "net_w4a4", "recipe_sha256": "a" * 64, "finetune": spec, "dataset": "digits", "images": 64,
        "steps_per_epoch": 2, "processes": 1, "start_top1": None, "top1": None, "eval_images": None, "rows": rows,
        "seconds": 1.5, "resumed": 0, "date": "2026-11-25", "environment": {"device": "cpu", "threads": 1},
    }  # fmt: skip
    return TrainingReport.model_validate(fields)


@given(st.lists(ROWS, max_size=4))
def test_csv_loses_no_digit(rows: list[LogRow]) -> None:
    read = list(csv.DictReader(io.StringIO(report(rows).to_csv())))
    assert len(read) == len(rows)
    for line, row in zip(read, rows, strict=True):
        assert list(line) == COLUMNS
        found = {key: None if text == "" else float(text) for key, text in line.items()}
        assert found == row.model_dump()


def test_csv_without_rows_is_its_header() -> None:
    assert rows_as_csv([]) == ",".join(COLUMNS) + "\n"


@given(st.lists(ROWS, max_size=4))
def test_a_report_comes_back_from_its_file(rows: list[LogRow]) -> None:
    made = report(rows)
    assert TrainingReport.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "64"}, "valid integer"),
        ({"seconds": float("nan")}, "finite number"),
        ({"elapsed": 1.0}, "Extra inputs are not permitted"),
        ({"rows": [{"step": 1}]}, "Field required"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingReport.model_validate(report([]).model_dump() | change)
