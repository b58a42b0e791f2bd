"""`qzoo finetune`: quantization-aware training of a variant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qzoo.cli.terminal.console import check_target, stderr, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import CalibImages, Data, Device, EvalImages, Html, Json, NoImages, Workers
from qzoo.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from qzoo.commands.train_variant import Finetuned


def run(
    name: Annotated[str, typer.Argument(help="A variant, or a recipe file with one: FILE:VARIANT.")],
    data: Data = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="If not as the recipe says.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate, if not as the recipe says.")] = None,
    train_batch: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Images a step, of all processes together, if not as the recipe says."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other field of the `finetune` block; may be repeated.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run. Default: in qzoo's cache.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option("--checkpoint-every", min=1, metavar="STEPS", help="Default: an epoch.", show_default=False),
    ] = None,
    train_images: Annotated[
        int | None, typer.Option("--train-images", min=1, help="A seeded sample instead of all.", show_default=False)
    ] = None,
    calib_images: CalibImages = None,
    eval_images: EvalImages = None,
    channels_last: Annotated[
        bool, typer.Option("--channels-last/--channels-first", help="Memory format of images and convolutions.")
    ] = True,
    compile_model: Annotated[bool, typer.Option("--compile", help="Train through torch.compile.")] = False,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    no_images: NoImages = False,
    json_file: Json = None,
) -> None:
    """Train a variant with its quantizers on, after calibrating it; keep the full checkpoint, its curve and its report.

    A variant with a `finetune` block is trained by it, and `qzoo.create(NAME, pretrained=True)` then finds it. Any
    other can be trained too, or trained otherwise; that makes a model of its own, in the folder of the run.

    Ctrl-C finishes the step and saves a checkpoint; `--resume` goes on from it.

    Examples:

    - `qzoo finetune resnet8_digits_w2a2_qat`  (half a minute, needs no data)
    - `qzoo finetune resnet50_int8_qat --data /data/imagenet --device cuda`
    - `qzoo finetune resnet20_cifar10_w4a8 --data /data --epochs 2 --lr 0.01 --set scales=learned --set schedule=cosine`
    - `torchrun --nproc-per-node=8 -m qzoo finetune resnet50_int8_qat15 --data /data/imagenet --device cuda`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.finetune import finetune_named, parse_changes
    from qzoo.commands.settings import Settings
    from qzoo.tasks.training_run import Run
    from qzoo.training.trainer import Execution
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    zoo_model = find(name)
    details = details_for(html, zoo_model, device)
    given: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": train_batch}
    said = {field: value for field, value in given.items() if value is not None} | parse_changes(changes or [])
    settings = Settings(data, calib_images, eval_images, None, device, workers)
    execution = Execution(channels_last, compile_model)
    checkpoint = _checkpoint(zoo_model, said, output)
    _tell_of(checkpoint, resume)
    try:
        made, kept = finetune_named(
            zoo_model, settings, changes=said, train_images=train_images,
            run=Run(output, resume, checkpoint_every, execution), details=details, progress=bar,
        )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        if checkpoint.is_file():
            interrupt.add_note(f"The run is saved in {checkpoint}; the same command with --resume goes on from it.")
        raise
    write_page(made, html, details, no_images=no_images)
    if json_file:
        write_json(made.report.model_dump_json(indent=1), json_file)
    if json_file != "-":
        stdout.print(_summary(made), soft_wrap=True)
        stdout.print(f"Model, curve and report: {kept.folder}", soft_wrap=True, markup=False)
        stdout.print(f'Load it: qzoo.create("{kept.address}", pretrained=True)', soft_wrap=True, markup=False)


def _summary(made: Finetuned) -> str:
    report, epochs = made.report, made.report.finetune.epochs
    return (
        f"{made.variant.name}: top-1 {report.start_top1:.2f} % calibrated, {report.top1:.2f} % after {epochs} "
        f"{'epoch' if epochs == 1 else 'epochs'} on {report.images:,} images, {report.seconds:.0f} s"
    )


def _checkpoint(zoo_model: ZooModel, said: dict[str, Any], output: Path | None) -> Path:
    from qzoo.commands.finetune import tuned
    from qzoo.commands.train_variant import run_folder
    from qzoo.tasks.training_run import CHECKPOINT_FILE

    return (output or run_folder(tuned(zoo_model, said).name)) / CHECKPOINT_FILE


def _tell_of(checkpoint: Path, resume: bool) -> None:
    """Says that a run is about to be replaced, or that there is none to go on with."""
    if checkpoint.is_file() and not resume:
        note = f"{checkpoint} is of an earlier run; --resume goes on from it, this run replaces it."
        stderr.print(f"note: {note}", soft_wrap=True, markup=False)
    if resume and not checkpoint.is_file():
        note = f"there is no checkpoint {checkpoint}; the run starts at the beginning."
        stderr.print(f"note: {note}", soft_wrap=True, markup=False)
