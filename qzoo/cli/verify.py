"""`qzoo verify`: does this machine get the predictions that a receipt holds?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from qzoo.cli.terminal.console import check_target, labelled, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, Data, Device, Html, Json, Ranges, Workers
from qzoo.errors import shown

if TYPE_CHECKING:
    from qzoo.commands.verify import Verified


def run(
    name: Annotated[str, typer.Argument(help="A variant, a recipe file with one, hf-hub:OWNER/REPO, or a folder.")],
    data: Data = None,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="How many to check; default: all of the receipt.", show_default=False),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="A receipt; default: the variant's own.", show_default=False)
    ] = None,
    ranges: Ranges = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Check a claim image by image: recompute predictions and compare them with the receipt. Needs no labels.

    Exits with 1 if this machine does not reproduce the claim.

    Examples:

    - `qzoo verify resnet8_digits_int8`  (needs no data)
    - `qzoo verify hf-hub:owner/resnet50_int8 --data /data/imagenet --images 500`
    - `qzoo verify resnet50_int8 --receipt theirs.receipt.safetensors --data /data/imagenet`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.settings import Settings
    from qzoo.commands.verify import verify
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    details = details_for(html, find(name), device) if html else None
    settings = Settings(data=data, batch_size=batch_size, device=device, workers=workers)
    result = verify(name, settings, images=images, receipt=receipt, ranges=ranges, details=details, progress=bar)
    if json_file:
        write_json(json.dumps(_facts(result), indent=1), json_file)
    if json_file != "-":
        for line in _lines(result):
            stdout.print(line, soft_wrap=True)
    write_page(result, html, details)
    sys.exit(0 if result.reproduced else 1)


def _lines(result: Verified) -> list[str | Text]:
    usual, exact, info = result.usual, result.exact, result.receipt.info
    claimed = f", top-1 {info.top1['quantized']:.2f}" if "quantized" in info.top1 else ""
    measured_on = f"{info.environment.get('cpu', 'unknown')}, torch {info.torch}, {info.date}"
    seen = (
        f": {usual.images:,} of the {len(result.receipt):,} images of the receipt "
        f"({shown(info.dataset)} {shown(info.split)}{claimed}; {shown(measured_on)})"
    )
    lines: list[str | Text] = [
        labelled(result.name, "bold", seen),
        f"  identical  {usual.identical:>7,}   same prediction, same margin",
        f"  moved      {usual.moved:>7,}   same prediction, another margin, as rounding does; "
        f"by {usual.largest:.2g} at most",
        f"  flipped    {usual.flipped:>7,}   another prediction",
        f"  exact      {exact.images:>7,}   margins in float64, which rounding does not move: {exact.moved:,} moved, "
        f"by {exact.largest:.2g} at most",
    ]
    if result.reproduced:
        return [*lines, labelled("reproduced", "green", ": this machine gets the predictions of the claim.")]
    cause = f": this is another model or another arithmetic. {result.cause}"
    return [*lines, labelled("not reproduced", "red", cause)]


def _facts(result: Verified) -> dict[str, Any]:
    return {
        "name": result.name,
        "reproduced": result.reproduced,
        "cause": result.cause,
        "usual": asdict(result.usual),
        "exact": asdict(result.exact),
        "float_exact": None if result.float_model is None else asdict(result.float_model),
        "receipt": {"images": len(result.receipt), **result.receipt.info.model_dump(mode="json")},
    }
