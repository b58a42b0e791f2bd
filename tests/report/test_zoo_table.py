"""The zoo's table fits the width it is given, and cuts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from qzoo.report.zoo_table import bases_table, legend, variants_table
from qzoo.results.zoo import Latency, Measured, ZooRow
from qzoo.zoo.table import zoo_table


@pytest.fixture(scope="module")
def rows() -> list[ZooRow]:
    return zoo_table()


def row(**fields: object) -> ZooRow:
    little = {
        "name": "a_int8", "base": "a", "variant": "int8", "version": 1, "dataset": "digits", "architecture": "qzoo/a",
        "published": [], "published_float": [], "targets": [], "latency": [],
    }  # fmt: skip
    return ZooRow.model_validate(little | fields)


def latency(**fields: object) -> Latency:
    little = {
        "runtime": "openvino", "cpu": "a processor", "threads": 2, "batch": 1, "float_ms": 2.0, "ms": 1.0,
        "date": "2026-12-01",
    }  # fmt: skip
    return Latency.model_validate(little | fields)


@pytest.mark.parametrize("table", [bases_table, variants_table])
@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_longer_and_every_name_is_whole(
    table: Callable[[Sequence[ZooRow], int | None], Iterator[str]], width: int, rows: list[ZooRow]
) -> None:
    lines = list(table(rows, width))
    assert max(map(len, lines)) <= width
    shown = [one.name for one in rows if table is variants_table or one.variant is None]
    assert [line.split()[0] for line in lines[1:]] == shown


def test_the_wider_the_more_columns_and_eighty_have_what_counts(rows: list[ZooRow]) -> None:
    headings = [next(variants_table(rows, width)).split("  ") for width in (80, 120, None)]
    columns = [[one.strip() for one in line if one.strip()] for line in headings]
    assert columns[0] == ["name", "top-1", "drop", "bits", "MB"]
    assert columns[1][:6] == [*columns[0], "ranges"]
    assert columns[2][: len(columns[1])] == columns[1]
    assert {"of float", "M params", "G MACs", "int", "dataset", "where"} <= set(columns[2])
    assert next(bases_table(rows, 80)).split() == ["base", "dataset", "float", "int8", "drop", "int8", "MB", "vars"]


def test_eighty_show_the_ranges_where_names_are_not_the_longest(rows: list[ZooRow]) -> None:
    cifar = [one for one in rows if one.dataset == "cifar10"]
    assert "ranges" in next(variants_table(cifar, 80))


def test_a_name_that_is_wider_than_the_terminal_stays_whole() -> None:
    name = "a" * 100
    assert list(variants_table([row(name=name)], 80)) == ["name", name]


def test_figures_stand_below_each_other_and_what_is_not_known_is_empty() -> None:
    found = Measured(
        float_top1=90.0, top1=89.5, images=10, complete=True, date="2026-12-01", cpu="x", place="shipped", file="f"
    )
    lines = list(
        variants_table(
            [row(measured=found, bytes=25_600_000, bits=8.0, float_bytes=102_400_000), row(name="b", bytes=79_392)],
            None,
        )
    )
    assert lines == [
        "name    top-1   drop  bits     MB  of float  dataset",
        "a_int8  89.50  +0.50     8   25.6       25%  digits",
        "b                           0.079            digits",
    ]


def test_the_legend_has_the_marks_that_are_shown_and_each_machine_once() -> None:
    claim = {"text": "88", "top1": 88.0, "source": "a paper of 2020"}
    rows = [
        row(published=[claim]),
        row(latency=[latency(), latency(batch=8, ms=0.1)]),
        row(latency=[latency(), latency(runtime="onnxruntime", ms=3.0)]),
    ]
    assert list(legend(rows)) == [
        "* as published, or as a run of ours that the recipe states; all others are measured, with a receipt",
        "ms: one image, openvino, 2 threads, a processor, 2026-12-01",
    ]
    assert [line.split() for line in variants_table(rows, None)][:3] == [
        ["name", "top-1", "ms", "dataset"], ["a_int8", "88.00*", "digits"], ["a_int8", "1.00", "digits"],
    ]  # fmt: skip
