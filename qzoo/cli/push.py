"""`qzoo push`: release a calibrated variant on the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qzoo.cli.terminal.console import labelled, stdout, write_json
from qzoo.cli.terminal.options import BatchSize, Data, Device, EvalImages, Json, Workers

if TYPE_CHECKING:
    from qzoo.commands.release.push import Pushed


def run(
    name: Annotated[str, typer.Argument(help="A variant, or a recipe file with one: my.yaml:int8.")],
    repo: Annotated[str, typer.Argument(help="OWNER/REPO; created if need be.")],
    data: Data = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(
            "--artifacts", help="A folder that `reproduce --artifacts` filled; looked into first.", show_default=False
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="How the full checkpoint is stored: packed (int8, int4, fp8), float, none.")
    ] = "packed",
    onnx: Annotated[
        list[str] | None,
        typer.Option("--onnx", help="A runtime to add an ONNX file for; may be given again.", show_default=False),
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a repository that is created.", show_default=False)
    ] = None,
    pin_file: Annotated[
        Path | None,
        typer.Option(
            "--pin",
            help="Note the commit in this hub.json, so that the name alone finds the model.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the files in this folder.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make the files, send nothing.")] = False,
    eval_images: EvalImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    json_file: Json = None,
) -> None:
    """Publish a calibrated variant on the Hugging Face hub, in one commit: model, ranges, receipt, card.

    Needs a token that may write: `hf auth login`, or HF_TOKEN. What is calibrated or measured already is taken; with
    --data, what is missing is made. It may be run again after being stopped at any point.

    Examples:

    - `qzoo push resnet8_digits_int8 me/resnet8_digits_int8`
    - `qzoo push resnet50_int8 me/resnet50_int8 --data /data/imagenet --private`
    - `qzoo push tf_efficientnet_lite0_int8_ort me/lite0 --onnx onnxruntime --onnx openvino --data /data`
    - `qzoo push my.yaml:int8 me/my_int8 --artifacts made/ --dry-run -o look/`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.release.push import push
    from qzoo.commands.settings import Settings
    from qzoo.errors import RecipeError, did_you_mean

    if weights not in ("packed", "float", "none"):
        raise RecipeError(f"--weights '{weights}' is unknown. {did_you_mean(weights, ['packed', 'float', 'none'])}")
    stored: Literal["packed", "float", "none"] = weights  # type: ignore[assignment]
    settings = Settings(data=data, eval_images=eval_images, batch_size=batch_size, device=device, workers=workers)
    made = push(
        name, repo, settings=settings, artifacts=artifacts, weights=stored, onnx=onnx or (), private=private,
        folder=output, dry_run=dry_run, pin_file=pin_file, progress=bar,
    )  # fmt: skip
    if json_file:
        write_json(_facts(made), json_file)
    if json_file != "-":
        _print(made, pin_file)


def _print(made: Pushed, pin_file: Path | None) -> None:
    for name, facts in made.manifest.files.items():
        stdout.print(f"{facts.bytes:>12,}  {name}", highlight=False)
    for sentence in made.missing:
        stdout.print(labelled("note", "yellow", f"  {sentence}"), soft_wrap=True)
    if made.address is None:
        where = f" The files are in {made.folder}." if made.folder else " -o FOLDER keeps the files."
        stdout.print(f"Nothing was sent (--dry-run).{where}", soft_wrap=True, markup=False)
        return
    repo, commit = made.address.repo, made.address.revision
    stdout.print(f"released as hf-hub:{repo} at commit {commit}", soft_wrap=True)
    stdout.print(f'load it:  qzoo.create("hf-hub:{repo}", pretrained=True)', markup=False, soft_wrap=True)
    if pin_file:
        stdout.print(f"pinned:   {pin_file}", soft_wrap=True, markup=False)


def _facts(made: Pushed) -> str:
    address = made.address
    facts = {"repo": address.repo if address else None, "commit": address.revision if address else None}
    return json.dumps({**facts, "missing": made.missing, "manifest": json.loads(made.manifest.to_json())}, indent=1)
