"""`qzoo sensitivity`: which layers suffer from quantization, and the rules that mend them."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.terminal.console import check_target, fail, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, CalibImages, Data, Device, EvalImages, Html, Json, Workers

if TYPE_CHECKING:
    from qzoo.results.sensitivity import SensitivityReport

CHARTS = (".png", ".svg", ".pdf")
RULES_INDENT = " " * 6
"""As `rules:` of a variant stand in a recipe."""


def run(
    name: Annotated[str, typer.Argument(help="A variant, or a recipe file with one: my.yaml:int8.")],
    data: Data = None,
    ranges: Annotated[
        Path | None,
        typer.Option("--ranges", help="A ranges file; default: those found by name, else it calibrates first."),
    ] = None,
    eval_images: EvalImages = None,
    calib_images: CalibImages = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Layers in the table and in the chart.")] = 30,
    mend: Annotated[int, typer.Option("--mend", min=0, help="How many of the worst layers to leave out.")] = 3,
    chart: Annotated[
        Path | None, typer.Option("--chart", help="Write a chart to FILE.png (or .svg, .pdf).", metavar="FILE")
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Quantize one layer at a time, leave out one layer at a time, and rank the layers by what that does.

    Ends with the rules that leave the worst layers in float, and what they bring, measured.

    Examples:

    - `qzoo sensitivity resnet8_digits_int8`
    - `qzoo sensitivity resnet50_int8 --data /data/imagenet --eval-images 1000 --chart resnet50.png`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.sensitivity import sensitivity_named
    from qzoo.commands.settings import Settings
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    _check_chart(chart)
    zoo_model = find(name)
    details = details_for(html, zoo_model, device)
    settings = Settings(data, calib_images, eval_images, batch_size, device, workers)
    report = sensitivity_named(zoo_model, settings, ranges=ranges, mend=mend, details=details, progress=bar)
    if json_file:
        write_json(report.to_json(), json_file)
    if chart:
        from qzoo.report.sensitivity import sensitivity_chart

        sensitivity_chart(report, chart, top)
    if json_file != "-":
        _print(report, zoo_model.variant, top)
        if chart:
            stdout.print(f"\nchart: {chart}", highlight=False, soft_wrap=True)
    write_page(report, html, details)


def _print(report: SensitivityReport, variant: str | None, top: int) -> None:
    from qzoo.report.sensitivity import sensitivity_table

    for part in sensitivity_table(report, top):
        stdout.print(part)
    if report.mended:
        stdout.print(f"\nRules that do the last of these, to go under `rules:` of a variant made `from: {variant}`:")
        stdout.print(indent(report.rules_yaml(), RULES_INDENT).rstrip(), markup=False, highlight=False, soft_wrap=True)


def _check_chart(chart: Path | None) -> None:
    """Refuses a chart that can't be written, before the work that it is for."""
    if chart is None:
        return
    if chart.suffix not in CHARTS:
        fail(f"--chart {chart} is no picture that can be written. Name it {chart.with_suffix('.png')}, .svg or .pdf.")
    check_target(str(chart), "--chart")
