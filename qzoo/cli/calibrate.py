"""`qzoo calibrate`: ranges of a variant, from images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.console import bar, stdout
from qzoo.cli.options import BatchSize, CalibImages, Data, Device
from qzoo.cli.variant import chosen
from qzoo.schema.catalog import Catalog

NAME = "calibrate"


def run(
    name: Annotated[str, typer.Argument(help="A variant, `resnet20_cifar10_int8`, or `my.yaml:int8`.")],
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the ranges go; default: qzoo's cache.")
    ] = None,
    calib_images: CalibImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
) -> None:
    """Calibrate a variant and save its ranges: a safetensors file of some KB.

    `qzoo.create(NAME, pretrained=True)` finds ranges in the cache.

    Examples:

    - `qzoo calibrate resnet8_digits_int8`
    - `qzoo calibrate resnet50_int8 --data /data/imagenet -o resnet50_int8.ranges.safetensors`
    """  # noqa: D412
    from qzoo.tasks.calibrate_variant import calibrate_variant

    entry, variant = chosen(Catalog.load(), name)
    made = calibrate_variant(
        entry,
        variant,
        data=data,
        images=calib_images,
        batch_size=batch_size,
        device=device,
        output=output,
        progress=bar,
    )
    size = made.path.stat().st_size / 1000
    stdout.print(
        f"{made.name}: {made.quantizers} ranges from {made.images:,} images in {made.seconds:.1f} s, "
        f"{size:.0f} kB: {made.path}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
