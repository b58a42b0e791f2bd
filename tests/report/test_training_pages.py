from __future__ import annotations

from pathlib import Path

import pytest

from qzoo import environment
from qzoo.errors import RecipeError, WeightsError
from qzoo.report import training as module
from qzoo.report.markdown import placed
from qzoo.report.training import BEGIN, END, training_table
from qzoo.schema.reading.catalog import Catalog, RecipeEntry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "finetune.md"


def shipped() -> list[RecipeEntry]:
    return Catalog([environment.packaged()]).entries


def test_the_table_is_current() -> None:
    stale = "the table of docs/finetune.md is stale: run `make style`"
    assert PAGE.read_text() == placed(PAGE, BEGIN, END, training_table(shipped())), stale


def test_every_shipped_training_has_a_row() -> None:
    reports = [path.name.removesuffix(".training.json") for path in environment.packaged().rglob("*.training.json")]
    rows = [line.split("`")[1] for line in training_table(shipped()).splitlines()[2:]]
    assert sorted(rows) == sorted(reports)


def test_a_report_of_another_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        digest = "0" * 64

    monkeypatch.setattr(module, "resolve", lambda *_: Other)
    with pytest.raises(WeightsError, match=r"of another state of its recipe. Train again: qzoo finetune resnet"):
        training_table(shipped())


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(RecipeError, match=r"has no place for the table. It goes between <a> and <b>"):
        placed(page, "<a>", "<b>", "")
