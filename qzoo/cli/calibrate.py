"""`qzoo calibrate`: ranges of variants, from images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import stdout
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, CalibImages, CalibrationData, Device, Html, Workers
from qzoo.schema.calibration import MADE_FROM


def run(
    name: Annotated[str, typer.Argument(help="A variant, or a base: then all its variants, in one pass.")],
    data: CalibrationData = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, or a folder. Default: qzoo's cache.", show_default=False),
    ] = None,
    histograms: Annotated[
        bool, typer.Option(help="Keep what was collected: `qzoo solve` finds other ranges in it, without images.")
    ] = True,
    calib_images: CalibImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
) -> None:
    """Calibrate a variant and save its ranges: a safetensors file of some KB.

    `qzoo.create(NAME, pretrained=True)` finds ranges in the cache, after those that are shipped.

    Examples:

    - `qzoo calibrate resnet8_digits_int8`
    - `qzoo calibrate resnet8_digits_int8 --data statistics`  (without an image, from what batch norm remembers)
    - `qzoo calibrate resnet50_int8 --data /data/imagenet -o resnet50_int8.ranges.safetensors`
    - `qzoo calibrate my.yaml --data /data -o ranges/`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.calibrate import calibratable, calibrate_variants
    from qzoo.commands.settings import Settings
    from qzoo.weights.kinds import RANGES
    from qzoo.zoo.name_lookup import find

    zoo_model = find(name)
    details = details_for(html, zoo_model, device)
    settings = Settings(data=data, calib_images=calib_images, batch_size=batch_size, device=device, workers=workers)
    variants = calibratable(zoo_model)
    made = calibrate_variants(variants, settings, output=output, histograms=histograms, details=details, progress=bar)
    for variant, one in zip(variants, made, strict=False):
        short = f" (all there are; the recipe wants {variant.resolved.calibration.images:,})" if one.short else ""
        stdout.print(
            f"{one.name}: {one.quantizers} ranges from {one.images:,} {MADE_FROM[one.source]}{short}, "
            f"{one.path.stat().st_size / 1000:.0f} kB, {one.seconds:.1f} s: {one.path}",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
        used = variant.artifact_at_hand(RANGES)
        if output is None and used is not None and used != one.path:
            stdout.print(
                f"note: by name {used} comes first; for these say `--ranges {one.path}`.", soft_wrap=True, markup=False
            )
    if histograms and made:
        stdout.print(
            f"Other ranges, without images: qzoo solve {made[0].histograms} --method mse", soft_wrap=True, markup=False
        )
    write_page(made, html, details)
