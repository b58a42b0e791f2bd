"""What a result looks like where it is printed, and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, zeros

from qzoo.results.readable import MOST_ROWS, Readable
from qzoo.schema.model import StrictModel


class Row(StrictModel):
    name: str
    top1: float
    lost: int | None = None


class Report(Readable, StrictModel):
    name: str
    weights_sha256: str
    note: str | None
    rows: list[Row]


@dataclass(frozen=True, repr=False)
class Found(Readable):
    also_shown: ClassVar[tuple[str, ...]] = ("good",)

    path: Path
    interval: tuple[float, float]
    predictions: Tensor

    @property
    def good(self) -> bool:
        return True


def report(rows: int = 2) -> Report:
    made = [Row(name=f"v{n}", top1=n / 3) for n in range(rows)]
    return Report(name="<b>", weights_sha256="a" * 64, note=None, rows=made)


def test_values_are_lines_and_lists_are_tables() -> None:
    assert repr(report()).split("\n") == [
        "Report", "  name: <b>", "  weights_sha256: aaaaaaaaaaaa...", "  rows: name  top1", "        v0    0",
        "        v1    0.333333",
    ]  # fmt: skip
    assert str(report()) == repr(report())


def test_what_is_large_is_told_by_its_shape() -> None:
    assert repr(report(MOST_ROWS + 3)).endswith(f"v{MOST_ROWS - 1}   3.66667\n        ... and 3 more")
    found = Found(Path("a/b"), (1.25, 2.0), zeros(9))
    assert repr(found) == "Found\n  path: a/b\n  interval: 1.25, 2\n  predictions: float32 (9,)\n  good: True"


def test_a_notebook_gets_tables_and_no_markup_of_anybody() -> None:
    html = report()._repr_html_()
    assert "<th>name</th><td>&lt;b&gt;</td>" in html
    assert "<table><tr><th>name</th><th>top1</th></tr><tr><td>v0</td><td>0</td></tr>" in html
    assert html.count("<table>") == html.count("</table>") == 2
