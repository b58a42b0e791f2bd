"""`qzoo reproduce`: rerun every number of a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, CalibImages, Data, Device, EvalImages, Html, Json, NoImages, Workers
from qzoo.errors import UnknownNameError, did_you_mean


def run(
    name: Annotated[str, typer.Argument(help="A base, a variant, or a recipe file.")] = "resnet8_digits",
    data: Data = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Run these variants only, with commas between; may be repeated."),
    ] = None,
    stage: Annotated[
        str,
        typer.Option("--stage", help="ptq: calibrate, optimize; qat: train too what is to be trained; all: both."),
    ] = "ptq",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with trainings that were interrupted, where they have a checkpoint.")
    ] = False,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Folder of the trainings. Default: in qzoo's cache.", show_default=False),
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(
            "--artifacts",
            help="Keep ranges, histograms and receipt of each calibrated variant in this folder, for `qzoo push`.",
            show_default=False,
        ),
    ] = None,
    calib_images: CalibImages = None,
    eval_images: EvalImages = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    no_images: NoImages = False,
    json_file: Json = None,
) -> None:
    """Calibrate, train and evaluate the variants of a recipe, and compare with what was published.

    Exits with 1 if a published figure was not met.

    Examples:

    - `qzoo reproduce`  (digits, needs no data)
    - `qzoo reproduce resnet20_cifar10 --data /data --json out.json`
    - `qzoo reproduce resnet20_cifar10 --data /data --artifacts made/`
    - `qzoo reproduce resnet8_digits --stage all`  (trains, too: two minutes)
    - `qzoo reproduce resnet50 --data /data/imagenet --only int8 --eval-images 5000`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.reproduce import STAGES, reproduce
    from qzoo.commands.settings import Settings
    from qzoo.report.table import report_table
    from qzoo.tasks.training_run import Run
    from qzoo.zoo.name_lookup import find

    check_target(json_file)
    settings = Settings(data, calib_images, eval_images, batch_size, device, workers)
    if stage not in STAGES:
        raise UnknownNameError(f"Unknown stage '{stage}'. {did_you_mean(stage, STAGES)}")
    details = details_for(html, find(name), device) if html else None
    only = [variant for part in only or () for variant in part.split(",")]
    report = reproduce(
        name,
        settings,
        only=[one for part in only or () for one in part.split(",")],
        stage=stage,
        artifacts=artifacts,
        run=Run(runs, resume),
        details=details,
        progress=bar,
    )
    if json_file:
        write_json(report.to_json(), json_file)
    if json_file != "-":
        for part in report_table(report):
            stdout.print(part)
    write_page(report, html, details, no_images=no_images)
    sys.exit(1 if any(row.verdict == "fail" for row in report.rows) else 0)
