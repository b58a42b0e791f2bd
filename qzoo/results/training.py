"""The report of a training: what was run, what came of it, and the curve between."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.model import ModelName, StrictModel, read_json_file

Percent = Annotated[float, Field(ge=0, le=100)]


class LogRow(Readable, StrictModel):
    """What a run was like since the row before. Accuracies are in percent."""

    step: int = Field(ge=0)
    """Steps that were made so far."""
    epoch: float = Field(ge=0)
    """Epochs that were made so far, such as 1.25."""
    lr: float = Field(ge=0)
    """The learning rate of the last step."""
    loss: float
    """Mean over the images."""
    train_top1: Percent
    """Top-1 of the training images, as the model was when it saw them."""
    top1: Percent | None = None
    """Top-1 of the evaluation images, at the end of an epoch."""


class TrainingReport(Readable, StrictModel):
    """One training run. The `training.json` beside a trained model."""

    name: ModelName
    """Full name of the variant; empty for a model that no recipe describes."""
    recipe_sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    finetune: FinetuneSpec
    dataset: str
    images: int = Field(ge=0)
    """That each epoch sees."""
    steps_per_epoch: int = Field(ge=0)
    processes: int = Field(ge=1)
    """That shared each batch."""
    start_top1: Percent | None
    """Before training: calibrated, on the evaluation images."""
    top1: Percent | None
    """After it."""
    eval_images: int | None = Field(ge=0)
    rows: list[LogRow]
    seconds: float = Field(ge=0)
    """Wall time of training and evaluating, without pauses between resumed parts."""
    resumed: int = Field(ge=0)
    """How often the run went on from a checkpoint."""
    date: str = Field(max_length=30)
    environment: dict[str, str | int] = Field(max_length=100)

    def to_csv(self) -> str:
        """Returns the rows as CSV."""
        return rows_as_csv(self.rows)


def rows_as_csv(rows: list[LogRow]) -> str:
    """Returns rows as CSV, with a header.

    Example:
        >>> print(rows_as_csv([LogRow(step=2, epoch=1.0, lr=0.1, loss=0.5, train_top1=90.0)]))
        step,epoch,lr,loss,train_top1,top1
        2,1.0,0.1,0.5,90.0,
        <BLANKLINE>
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(LogRow.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(row.model_dump() for row in rows)
    return text.getvalue()


def read_training_report(path: Path) -> TrainingReport:
    """Returns the report that a `training.json` holds.

    Raises:
        WeightsError: it is missing, too large, damaged, or says what no training leaves behind; names the field.
    """
    return read_json_file(path, TrainingReport, "`qzoo finetune NAME` writes one; or copy it again.")
