"""`qzoo evaluate`: accuracy of a float base or of a calibrated variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.options import Adapt, BatchSize, Data, Device, EvalImages, Json, Ranges, ReduceRange, Workers
from qzoo.runtimes.registry import spelled
from qzoo.schema.calibration import MADE_FROM

if TYPE_CHECKING:
    from qzoo.tasks.evaluate import Evaluation


def run(
    name: Annotated[str, typer.Argument(help="A base, a variant with ranges, or a recipe file.")],
    data: Data = None,
    ranges: Ranges = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            help="Write the predictions behind the figure, float beside quantized: for `qzoo verify`.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            "-r",
            help=f"Evaluate what is exported for {spelled()}.",
            show_default=False,
        ),
    ] = None,
    adapt: Adapt = False,
    reduce_range: ReduceRange = False,
    eval_images: EvalImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    json_file: Json = None,
) -> None:
    """Measure top-1 and top-5 of a model on its dataset's evaluation split.

    Examples:

    - `qzoo evaluate resnet8_digits_int8`
    - `qzoo evaluate resnet20_cifar10_int8 --data /data --eval-images 1000`
    - `qzoo evaluate resnet8_digits_int8 --runtime onnxruntime --adapt`
    - `qzoo evaluate resnet8_digits_int8 --runtime onnxruntime --reduce-range`
    - `qzoo evaluate resnet20_cifar10_int8 --data /data --receipt resnet20_cifar10_int8.receipt.safetensors`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.evaluate import evaluate_named
    from qzoo.commands.settings import Settings
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    zoo_model = find(name)
    settings = Settings(data=data, eval_images=eval_images, batch_size=batch_size, device=device, workers=workers)
    check_target(None if receipt is None else str(receipt), "--receipt")
    result = evaluate_named(
        zoo_model, settings, ranges=ranges, receipt=receipt, runtime=runtime, adapt=adapt, reduce_range=reduce_range,
        progress=bar,
    )  # fmt: skip
    if json_file:
        write_json(
            json.dumps(_facts(name, runtime, result) | {"adapt": adapt, "reduce_range": reduce_range}), json_file
        )
    if json_file != "-":
        low, high = result.ci95 or (0.0, 100.0)
        how = " with weights of 7 bits" if reduce_range else ", adapted to it" if adapt else ""
        what = name if runtime is None else f"{name} in {runtime}{how}"
        made = f", ranges from {MADE_FROM[result.ranges_from]}" if result.ranges_from not in (None, "images") else ""
        stdout.print(
            f"{what}{made}: top-1 {result.top1:.2f} ({low:.2f} .. {high:.2f}), top-5 {result.top5:.2f} "
            f"on {result.images:,} images in {result.seconds:.1f} s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _facts(name: str, runtime: str | None, result: Evaluation) -> dict[str, Any]:
    return {
        "name": name,
        "runtime": runtime,
        "images": result.images,
        "top1": result.top1,
        "top5": result.top5,
        "ci95": result.ci95,
        "ranges_from": result.ranges_from,
        "seconds": round(result.seconds, 2),
    }
