"""Ranges, values and noise of quantizers, as far as they were gathered."""

from __future__ import annotations

from collections.abc import Iterator

from qzoo.report.html.blocks import Block, Cell, Column, Section, Table, Text, number
from qzoo.report.html.charts.noise import noise_charts
from qzoo.report.html.charts.tensors import percent, tensor_charts
from qzoo.results.details import Details, QuantizerDetail

MOST_ROWS = 1_000
"""Of a table; a page with more takes long to open."""
COLUMNS = (
    Column("quantizer", code=True), Column("variant", code=True), Column("how"), Column("smallest seen", True),
    Column("largest seen", True), Column("range from", True), Column("to", True), Column("clipped", True),
    Column("own SQNR", True), Column("SQNR so far", True),
)  # fmt: skip


VARIANT = 1
"""The place of its column."""


def quantizer_sections(details: Details) -> list[Section]:
    """Returns the sections on noise and on ranges; sections without blocks where nothing was gathered."""
    noise = noise_charts(details.quantizers, details.compared)
    return [Section("Noise", [] if noise is None else [noise]), Section("Ranges", [*_ranges(details)])]


def _ranges(details: Details) -> Iterator[Block]:
    charts, left_out = tensor_charts(details.quantizers, details.seen_on)
    if charts is not None:
        yield charts
    if left_out:
        yield Text(f"{left_out} more tensors, of which less is clipped, are in the table alone.")
    rows = [_row(variant, one) for variant, found in details.quantizers.items() for one in found]
    if rows:
        # A column that says the same in each row says nothing.
        shown = [place for place in range(len(COLUMNS)) if place != VARIANT or len(details.quantizers) > 1]
        yield Table(
            "Every quantizer: what it saw, its range, and its noise",
            [COLUMNS[place] for place in shown],
            [[row[place] for place in shown] for row in rows[:MOST_ROWS]],
        )
    if len(rows) > MOST_ROWS:
        yield Text(f"The table shows {MOST_ROWS:,} of {len(rows):,} quantizers: those of the first variants.")


def _row(variant: str, one: QuantizerDetail) -> list[str | Cell]:
    seen = (None, None) if one.seen is None else (one.seen.low, one.seen.high)
    clipped = Cell("") if one.clipped is None else Cell(percent(one.clipped), one.clipped)
    return [
        one.path.removesuffix("_quantizer"), variant, one.spec,
        *(number(end, ".4g") for end in (*seen, *one.range)), clipped,
        number(one.own_sqnr_db, ".1f", " dB"), number(one.sqnr_db, ".1f", " dB"),
    ]  # fmt: skip
