"""`qzoo check`: do the ranges of a variant fit these images?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from qzoo.cli.terminal.console import check_target, labelled, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, Device, Html, Json, Ranges, Workers

if TYPE_CHECKING:
    from qzoo.results.check import CheckReport
    from qzoo.zoo.zoo_model import ZooModel

STYLES = {"fine": "green", "layers": "bold red", "recalibrate": "bold red", "low agreement": "yellow"}


def run(
    name: Annotated[str, typer.Argument(help="A variant, a recipe file with one, hf-hub:OWNER/REPO, or a folder.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Any folder of images, or that of the dataset.", envvar="QZOO_DATA", show_default=False
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="How many, a seeded sample; default: 64.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of the sample.")] = 0,
    ranges: Ranges = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Quantizers in the table; all are in the JSON.")] = 5,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Check the ranges of a variant on a few images: 64 of your own, without labels, before you ship it.

    Says which ranges are too narrow or too wide for these images, and how often float and quantized model agree on
    them. Exits with 1 if the ranges or the model do not fit.

    Examples:

    - `qzoo check resnet8_digits_int8`  (needs no data)
    - `qzoo check resnet50_int8 --data photos/ --images 100`
    - `qzoo check my.yaml:int8 --ranges theirs.ranges.safetensors --data photos/ --json check.json`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.check import check_named
    from qzoo.commands.settings import Settings
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    zoo_model = find(name)
    details = details_for(html, zoo_model, device)
    settings = Settings(data=data, batch_size=batch_size, device=device, workers=workers)
    report = check_named(zoo_model, settings, images=images, seed=seed, ranges=ranges, details=details, progress=bar)
    if json_file:
        write_json(report.to_json(), json_file)
    if json_file != "-":
        for part in _parts(report, zoo_model, top):
            stdout.print(part, soft_wrap=True)
    write_page(report, html, details)
    sys.exit(0 if report.verdict == "fine" else 1)


def _parts(report: CheckReport, zoo_model: ZooModel, top: int) -> Iterator[RenderableType]:
    yield labelled(report.verdict, STYLES[report.verdict], f": {report.sentence}")
    low, high = report.ci95
    noise = "no noise at all" if report.sqnr_db is None else f"SQNR {report.sqnr_db:.1f} dB"
    agree = f"{report.agreement:.1f} % agree with float ({low:.1f} to {high:.1f})"
    yield f"{report.name} on {report.images} images: {agree}, {noise}"
    yield ""
    yield _table(report, max(top, len(report.faults)))
    yield Text(_rest(report, max(top, len(report.faults))), "dim")
    yield labelled("next", "bold", f" {_next_step(report, zoo_model)}")


def _table(report: CheckReport, top: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("quantizer", overflow="fold")
    for heading in ("range", "found here", "ratio", "clipped", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.quantizers[:top]:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        word = Text(f"too {row.fault}", "bold red") if row.fault else Text("" if row.judged else "not judged", "dim")
        table.add_row(row.path, _span(row.range), _span(row.found), ratio, f"{row.clipped:.2f} %", word)
    return table


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"


def _rest(report: CheckReport, top: int) -> str:
    more = len(report.quantizers) - top
    return f"and {more:,} that are nearer; --top or --json has them" if more > 0 else "these are all"


def _next_step(report: CheckReport, zoo_model: ZooModel) -> str:
    if report.verdict == "fine":
        return f"ship it: {zoo_model.command('export')}"
    if report.verdict == "low agreement":
        return f"find the layers that take it away: {zoo_model.command('sensitivity')}"
    return f"find ranges anew, on images like these: {zoo_model.making_command}"
