"""`qzoo optimize`: better weights for the ranges that calibration found, without labels and without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, CalibImages, CalibrationData, Device, Html, Json, Workers


def run(
    name: Annotated[str, typer.Argument(help="A variant with an `optimize` block, or a base: then all such.")],
    data: CalibrationData = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, or a folder. Default: qzoo's cache.", show_default=False),
    ] = None,
    calib_images: CalibImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Calibrate a variant, carry out the steps of its `optimize` block, and save what makes it of its float base.

    That is a safetensors file of ranges, and of one bit for each weight that is rounded up or down.
    `qzoo.create(NAME, pretrained=True)` finds it in the cache, after those that are shipped. `qzoo reproduce` does the
    same, and measures what comes of it.

    Ctrl-C keeps the units that are reconstructed; the same command goes on from there.

    Examples:

    - `qzoo optimize resnet8_digits_w2a2_opt`  (seconds, needs no data)
    - `qzoo optimize resnet20_cifar10_w4a4_opt --data /data`
    - `qzoo optimize my.yaml:w4a8_gptq --data /data -o w4a8_gptq.rounding.safetensors`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.optimize import optimizable, optimize_variants
    from qzoo.commands.settings import Settings
    from qzoo.report.optimization import optimization_table
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    zoo_model = find(name)
    details = details_for(html, zoo_model, device)
    settings = Settings(data=data, calib_images=calib_images, batch_size=batch_size, device=device, workers=workers)
    made = optimize_variants(optimizable(zoo_model), settings, output=output, details=details, progress=bar)
    if json_file:
        reports = {one.name: one.report.model_dump(mode="json") for one in made}
        write_json(json.dumps(reports, indent=1), json_file)
    for one in made if json_file != "-" else ():
        for part in optimization_table(one.name, one.report):
            stdout.print(part)
        size = one.path.stat().st_size / 1000
        stdout.print(f"{size:,.0f} kB, {one.seconds:.1f} s in all: {one.path}", highlight=False, soft_wrap=True)
    write_page(made, html, details)
