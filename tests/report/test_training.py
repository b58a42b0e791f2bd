from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.image
import pytest

from qzoo.report.training import HELD_OUT, training_chart
from qzoo.results.training import TrainingReport
from qzoo.schema.finetune import FinetuneSpec
from tests.report.test_card_sections import report


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


def drawn(made: TrainingReport, folder: Path) -> str:
    """The picture as SVG, with its words as words."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        training_chart(made, folder / "a.svg")
    return (folder / "a.svg").read_text()


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "net_int8_qat\n50 epochs on 50,000 images of CIFAR-10, fixed ranges"),
        ({"name": "", "dataset": ""}, "model\n50 epochs on 50,000 images of a dataset, fixed ranges"),
        (
            {"finetune": FinetuneSpec.model_validate({"epochs": 1, "lr": 0.1, "scales": "learned"}), "images": 999},
            "net_int8_qat\n1 epoch on 999 images of CIFAR-10, learned scales",
        ),
    ],
)
def test_the_title_says_what_was_run(changes: dict[str, object], title: str, tmp_path: Path) -> None:
    drawing = drawn(report(3).model_copy(update=changes), tmp_path)
    assert [line for line in title.split("\n") if f">{line}<" not in drawing] == []


def test_axes_and_curves_are_named(tmp_path: Path) -> None:
    text = drawn(report(3), tmp_path)
    for word in ("training loss", "top-1, percent", "learning rate", "epoch", "training", "evaluation"):
        assert f">{word}<" in text
    # The last accuracy stands at its point.
    assert ">80.30<" in text


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (80.0, ">calibrated: 80.00<"),
        (9.87, ">calibrated: 9.87 (below the picture)<"),
        (99.9, ">calibrated: 99.90 (above the picture)<"),
        (None, None),
    ],
)
def test_the_start_is_told_also_where_it_lies_outside(start: float | None, words: str | None, tmp_path: Path) -> None:
    made = report(20)
    rows = [row.model_copy(update={"train_top1": 90.0}) for row in made.rows]
    text = drawn(made.model_copy(update={"start_top1": start, "rows": rows}), tmp_path)
    assert ("calibrated" in text) is (words is not None)
    assert words is None or words in text


def test_without_evaluation_there_is_no_such_curve(tmp_path: Path) -> None:
    made = report(3)
    rows = [row.model_copy(update={"top1": None}) for row in made.rows]
    text = drawn(made.model_copy(update={"rows": rows}), tmp_path)
    assert ">evaluation<" not in text
    assert HELD_OUT not in text
    assert HELD_OUT in drawn(made, tmp_path)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_replaces_the_one_before(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"training.{kind}"
    file.write_text("old")
    training_chart(report(1), file)
    assert file.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_no_tick_is_above_a_hundred_percent(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"train_top1": 100.0, "top1": 99.9}) for row in report(6).rows]
    text = drawn(report(6).model_copy(update={"rows": rows, "start_top1": 20.0}), tmp_path)
    assert re.findall(r">(\d+(?:\.\d+)?)</text>", text)
    assert not [tick for tick in re.findall(r">(1\d\d(?:\.\d+)?)</text>", text) if float(tick) > 100]
    assert "calibrated: 20.00 (below the picture)" in text
