"""`qzoo solve`: ranges from histograms, without images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qzoo.cli.terminal.console import stdout

_TRUTH: dict[str | None, Any] = {"true": True, "false": False}


def run(
    histograms: Annotated[Path, typer.Argument(help="A file that `qzoo calibrate` wrote.")],
    method: Annotated[
        str | None,
        typer.Option("--method", help="Of the inputs: max, percentile, mse, entropy. Default: as it was."),
    ] = None,
    percentile: Annotated[
        float | None, typer.Option("--percentile", help="For the method percentile; default 99.99.", show_default=False)
    ] = None,
    bits: Annotated[int | None, typer.Option("--bits", help="Of the inputs, 2 to 16.", show_default=False)] = None,
    weight_bits: Annotated[
        int | None, typer.Option("--weight-bits", help="Of the weights, 2 to 16.", show_default=False)
    ] = None,
    symmetric: Annotated[
        str | None,
        typer.Option("--symmetric", help="Of the inputs: true, false (with a zero point) or auto.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, or a folder. Default: beside the histograms.", show_default=False),
    ] = None,
) -> None:
    """Solve ranges from what a calibration collected: another method or bit width, in seconds, without images.

    The ranges are those that a calibration on the same images would give, bit for bit.

    Examples:

    - `qzoo solve resnet50_int8.histograms.safetensors --method entropy`
    - `qzoo solve resnet50_int8.histograms.safetensors --method percentile --percentile 99.9 --bits 6`
    - `qzoo solve resnet50_int8.histograms.safetensors --method mse --bits 4 --weight-bits 4 -o made/`
    - `qzoo solve resnet50_int8.histograms.safetensors --method max --symmetric false`
    """  # noqa: D412
    from qzoo.commands.solve import solve
    from qzoo.quant.ranges import quantizers
    from qzoo.schema.reading.yaml_source import yaml_line

    made = solve(
        histograms, method, percentile=percentile, bits=bits, weight_bits=weight_bits, output=output,
        symmetric=_TRUTH.get(symmetric, symmetric),
    )  # fmt: skip
    stdout.print(
        f"{made.variant.name}: {len(quantizers(made.model))} ranges, {made.path.stat().st_size / 1000:.0f} kB: "
        f"{made.path}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if len(made.written) > 1:
        line = f"{made.variant.variant}: {yaml_line(made.written)}"
        stdout.print(f"as a variant of the recipe:  {line}", markup=False, soft_wrap=True)
