"""The report of a training: what was run, what came of it, and the curve between."""

from __future__ import annotations

import csv
import io

from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.model import StrictModel


class LogRow(StrictModel):
    """What a run was like since the row before. Accuracies are in percent."""

    step: int
    """Steps that were made so far."""
    epoch: float
    """Epochs that were made so far, such as 1.25."""
    lr: float
    """Of the last step."""
    loss: float
    """Mean over the images."""
    train_top1: float
    """Of the training images, as the model was when it saw them."""
    top1: float | None = None
    """Of the evaluation images, at the end of an epoch."""


class TrainingReport(StrictModel):
    """One training run. The `training.json` beside a trained model."""

    name: str
    """Full name of the variant; empty for a model that no recipe describes."""
    recipe_sha256: str
    finetune: FinetuneSpec
    dataset: str
    images: int
    """That each epoch sees."""
    steps_per_epoch: int
    processes: int
    """That shared each batch."""
    start_top1: float | None
    """Before training: calibrated, on the evaluation images."""
    top1: float | None
    """After it."""
    eval_images: int | None
    rows: list[LogRow]
    seconds: float
    """Wall time of training and evaluating, without pauses between resumed parts."""
    resumed: int
    """How often the run went on from a checkpoint."""
    date: str
    environment: dict[str, str | int]

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
