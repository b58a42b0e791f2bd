"""A calibration: the ranges that were found."""

from __future__ import annotations

from collections.abc import Sequence

from qzoo.report.html.blocks import Cell, Column, Content, Mark, Section, Table, number
from qzoo.report.html.charts.tensors import percent
from qzoo.report.html.sections.quantizers import quantizer_sections
from qzoo.results.calibration import Calibrated
from qzoo.results.details import Details
from qzoo.schema.calibration import MADE_FROM

FILES = (
    Column("variant", code=True), Column("quantizers", True), Column("images", True), Column("seconds", True),
    Column("ranges", code=True), Column("histograms", code=True),
)  # fmt: skip


def content(made: Sequence[Calibrated], details: Details) -> Content:
    """Returns what a page says of the calibration of one or more variants of a base."""
    first = made[0]
    title = first.name if len(made) == 1 else f"{details.name or first.name} and its variants"
    short = "; the recipe wants more, and these are all there are" if any(one.short for one in made) else ""
    seconds = sum(one.seconds for one in made)
    about = f"Calibrated on {first.images:,} {MADE_FROM[first.source]}{short}, in {seconds:.1f} s."
    rows: list[list[str | Cell]] = [
        [
            one.name, number(one.quantizers, ",.0f"), number(one.images, ",.0f"), number(one.seconds, ".1f"),
            str(one.path), "" if one.histograms is None else str(one.histograms),
        ]
        for one in made
    ]  # fmt: skip
    files = Section("Files", [Table("What was written", FILES, rows)])
    mark: Mark = "open" if short else "good"
    return Content(title, about, _verdict(made, details), mark, [*quantizer_sections(details), files])


def _verdict(made: Sequence[Calibrated], details: Details) -> str:
    verdict = f"{sum(one.quantizers for one in made)} quantizers have a range"
    found = [(variant, one) for variant, each in details.quantizers.items() for one in each]
    clipped = [(variant, one) for variant, one in found if one.of == "activation" and one.clipped]
    of = " of {}" if len(made) > 1 else ""
    if clipped:
        variant, worst = max(clipped, key=lambda one: one[1].clipped or 0.0)
        name = worst.path.removesuffix("_quantizer") + of.format(variant)
        verdict += f"; {name} clips most, {percent(worst.clipped or 0.0)} of its values"
    noisy = [(variant, one) for variant, one in found if one.sqnr_db is not None]
    if noisy:
        variant, worst = min(noisy, key=lambda one: one[1].sqnr_db or 0.0)
        verdict += (
            f"; noise is worst at {worst.path.removesuffix('_quantizer')}{of.format(variant)}, {worst.sqnr_db:.1f} dB"
        )
    return f"{verdict}."
