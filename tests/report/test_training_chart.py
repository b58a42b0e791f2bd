from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from qzoo.report.training_chart import training_chart
from tests.report.test_card_training import report


@pytest.mark.parametrize("epochs", [1, 3, 50])
@pytest.mark.parametrize("start", [None, 0.0, 84.0, 100.0])
def test_a_picture_is_drawn_without_a_warning(epochs: int, start: float | None, tmp_path: Path) -> None:
    made = report(epochs).model_copy(update={"start_top1": start})
    training_chart(made, tmp_path / "training.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "training.png").shape
    assert (height, width) == (1125, 1200)


def test_without_evaluation_images(tmp_path: Path) -> None:
    made = report(2)
    rows = [row.model_copy(update={"top1": None}) for row in made.rows]
    bare = made.model_copy(update={"rows": rows, "start_top1": None, "name": "", "dataset": ""})
    training_chart(bare, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 10_000
