"""`qzoo verify`: does this machine get the predictions that a receipt holds?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.console import check_target, stdout, write_json
from qzoo.cli.options import BatchSize, Data, Device, Json, Workers

if TYPE_CHECKING:
    pass

NAME = "verify"


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
    ranges: Annotated[
        Path | None, typer.Option("--ranges", help="A ranges file; default: those found by name.", show_default=False)
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    json_file: Json = None,
) -> None:
    """Check a claim image by image: recompute predictions and compare them with the receipt. Needs no labels.

    Exits with 1 if this machine does not reproduce the claim.

    Examples:

    - `qzoo verify resnet8_digits_int8`  (needs no data)
    - `qzoo verify hf-hub:owner/resnet50_int8 --data /data/imagenet --images 500`
    - `qzoo verify resnet50_int8 --receipt theirs.receipt.safetensors --data /data/imagenet`
    """  # noqa: D412
    from qzoo.cli.progress_bar import bar
    from qzoo.tasks.settings import Settings
    from qzoo.tasks.verify import verify

    check_target(json_file)
    settings = Settings(data=data, batch_size=batch_size, device=device, workers=workers)
    result = verify(name, settings, images=images, receipt=receipt, ranges=ranges, progress=bar)
    if json_file:
        write_json(json.dumps(_facts(result), indent=1), json_file)
    if json_file != "-":
        for line in _lines(result):
            stdout.print(line, highlight=False, soft_wrap=True)
    sys.exit(0 if result.reproduced else 1)
