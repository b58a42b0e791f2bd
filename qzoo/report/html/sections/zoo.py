"""The zoo as a page: all models in one table, accuracy against costs, and of each its recipe, reports and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qzoo.errors import LONGEST_NAME, shown
from qzoo.report.html.blocks import Cell, Choice, Code, Column, Content, Facts, Folded, Section, Table, Text, number
from qzoo.report.html.charts.zoo import LATENCY, MACS, SIZE, accuracy_against, href
from qzoo.report.zoo_table import measured_on, origin
from qzoo.results.zoo import ZooRow
from qzoo.schema.datasets import dataset_named

COLUMNS = [
    Column("name", code=True, whole=True),
    Column("dataset", whole=True),
    Column("top-1", numeric=True),
    Column("figure"),
    Column("drop", numeric=True),
    Column("bits", numeric=True),
    Column("MB", numeric=True),
    Column("of float", numeric=True),
    Column("M params", numeric=True),
    Column("G MACs", numeric=True),
    Column("on integers", numeric=True),
    Column("ms", numeric=True),
    Column("ranges", whole=True),
]
SOURCES = [
    Column("name", code=True, whole=True),
    Column("command", code=True, whole=True),
    Column("measured"),
    Column("published"),
]
LEGEND = (
    "Top-1 in percent. Figure: “measured” on a whole split, with a receipt; “partial” on a part of it, of which "
    "only the drop compares; “published” by others; “own”, an earlier run of ours that the recipe states. Drop: "
    "points of top-1 below float. Bits: of a weight, on average. MB: weights at their bits, a scale of 4 bytes "
    "for each channel, all else in float32; M params and G MACs are those of the base. On integers: share of the "
    "multiply-accumulates by weights whose two operands are quantized to integers. What is not known is empty."
)


def content(rows: Sequence[ZooRow], recipes: Mapping[str, str]) -> Content:
    """Returns what the page says.

    Args:
        rows: bases and variants, in their order.
        recipes: by base, the text of its recipe file.
    """
    found = {against.title: accuracy_against(rows, against) for against in (SIZE, MACS, LATENCY)}
    charts = {word: chart for word, chart in found.items() if chart is not None}
    bases = list(dict.fromkeys(row.base for row in rows))
    table = Table("All models", COLUMNS, [_cells(row) for row in rows])
    return Content(
        title="The zoo",
        about="A declarative zoo of quantized vision models in which every number can be rerun.",
        verdict=_verdict(rows),
        mark="open",
        wide=True,
        sections=[
            Section("Accuracy against costs", [Choice("Accuracy against", charts)] if charts else []),
            Section("Models", [Text(LEGEND), *(Text(line) for line in _latencies(rows)), table]),
            Section("Recipes", [_recipe(base, [row for row in rows if row.base == base], recipes) for base in bases]),
        ],
    )


def _verdict(rows: Sequence[ZooRow]) -> str:
    variants = [row for row in rows if row.variant is not None]
    measured = sum(row.standing == "measured" for row in variants)
    ready = sum(row.ranges_at is not None for row in variants)
    bases = len({row.base for row in rows})
    return (
        f"{len(variants)} variants of {bases} bases; {ready} have ranges already, {measured} are measured image by "
        "image on a whole split."
    )


def _cells(row: ZooRow) -> list[str | Cell]:
    def share(value: float | None) -> Cell:
        return number(None if value is None else 100 * value, ".0f", " %")

    def millions(value: int | None, unit: float) -> Cell:
        return number(None if value is None else value / unit, ".3g")

    return [
        Cell(row.name, href=href(row)),
        dataset_named(row.dataset).title,
        number(row.top1),
        row.standing or "",
        number(row.drop, "+.2f"),
        number(row.bits, ".3g"),
        number(row.megabytes, ".3g"),
        share(row.relative_size),
        millions(row.parameters, 1e6),
        millions(row.macs, 1e9),
        share(row.integer_share),
        number(row.latency_ms, ".3g"),
        origin(row),
    ]


def _latencies(rows: Sequence[ZooRow]) -> Iterator[str]:
    found = dict.fromkeys(measured_on(one) for row in rows for one in row.latency)
    if found:
        yield f"Milliseconds are medians for one image, float and quantized in one run: {'; '.join(found)}."


def _recipe(base: str, rows: Sequence[ZooRow], recipes: Mapping[str, str]) -> Folded:
    first = rows[0]
    dataset = dataset_named(first.dataset)
    facts = [("base", first.architecture), ("dataset", dataset.title), ("recipe version", str(first.version))]
    table = Table(f"Models of {base}", SOURCES, [_sources(row, dataset.data_option) for row in rows])
    recipe = [Code(f"Recipe of {base}", recipes[base].rstrip())] if base in recipes else []
    return Folded(base, f"recipe-{base}", [Facts(facts), table, *recipe])


def _sources(row: ZooRow, data: str) -> list[str | Cell]:
    only = "" if row.variant is None else f" --only {row.variant}"
    claims = row.published if row.variant is not None else row.published_float
    return [
        Cell(row.name, anchor=row.name),
        f"qzoo reproduce {row.base}{only}{data}",
        "\n".join([*_measured(row), *_timed(row)]),
        "\n".join(f"{one.text}: {shown(one.source)}" for one in claims),
    ]


def _measured(row: ZooRow) -> Iterator[str]:
    found = row.measured
    if found is not None:
        images = f"{'all' if found.complete else 'on'} {found.images:,} images"
        yield f"{found.top1:.2f} %, {images}, {found.date}, {shown(found.cpu, LONGEST_NAME)}; {found.file}"


def _timed(row: ZooRow) -> Iterator[str]:
    for one in row.latency:
        yield f"{one.ms:.3g} ms for {one.batch}, float {one.float_ms:.3g} ms: {measured_on(one)}"
