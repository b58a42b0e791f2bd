"""The curve of a run: a row every so many steps, kept as CSV and, if it is installed, for TensorBoard."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qzoo.distributed import reduced
from qzoo.files import write_text
from qzoo.results.training import LogRow, rows_as_csv

ROWS_A_RUN = 160
"""About so many, and one at the end of each epoch: enough for a picture."""


class Curve:
    """Collects loss and accuracy of steps, and makes rows of them.

    Args:
        steps_per_epoch: the steps of the run.
        epochs: the epochs of the run.
        folder: that gets `training.csv` and TensorBoard's files; None: nothing is written.

    Attributes:
        rows: made so far.
        pending: since the last row: sum of losses, images, images that were predicted rightly.
    """

    def __init__(self, steps_per_epoch: int, epochs: int, folder: Path | None = None) -> None:
        self.steps_per_epoch, self.folder = steps_per_epoch, folder
        self.every = max(1, steps_per_epoch * epochs // ROWS_A_RUN)
        self.rows: list[LogRow] = []
        self.pending: tuple[float, int, int] = (0.0, 0, 0)
        self._steps: list[Tensor] = []
        self._board = _board(folder)

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """Takes note of one step of this process."""
        # Read later: looking at a number on a GPU waits for it.
        self._steps.append(torch.stack([loss.double() * images, torch.full_like(loss, images), correct]).double())

    def is_due(self, step: int) -> bool:
        """Whether a row is to be made after so many steps."""
        return step % self.steps_per_epoch == 0 or step % self.steps_per_epoch % self.every == 0

    def close_row(self, step: int, lr: float, top1: float | None = None) -> None:
        """Makes a row of the steps since the last one, of all processes together."""
        self.settle()
        loss, images, correct = reduced(torch.tensor(self.pending, dtype=torch.float64), "sum").tolist()
        row = LogRow(
            step=step,
            epoch=round(step / self.steps_per_epoch, 4),
            lr=lr,
            loss=loss / max(images, 1),
            train_top1=round(100 * correct / max(images, 1), 4),
            top1=top1,
        )
        self.rows.append(row)
        self.pending = (0.0, 0, 0)
        self._show(row)

    def settle(self) -> None:
        """Adds what steps left to `pending`."""
        for part in self._steps:
            loss, images, correct = part.tolist()
            self.pending = (self.pending[0] + loss, self.pending[1] + int(images), self.pending[2] + int(correct))
        self._steps.clear()

    def write(self) -> None:
        """Writes `training.csv`, in one step."""
        if self.folder is None:
            return
        write_text(self.folder / "training.csv", rows_as_csv(self.rows))

    def close(self) -> None:
        """Ends what TensorBoard reads."""
        if self._board is not None:
            self._board.close()

    def _show(self, row: LogRow) -> None:
        if self._board is not None:
            for name, value in row.model_dump(exclude={"step", "epoch"}, exclude_none=True).items():
                self._board.add_scalar(name, value, row.step)


def _board(folder: Path | None) -> Any:
    if folder is None or find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
