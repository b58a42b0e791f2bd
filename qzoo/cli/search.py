"""`qzoo search`: the best way of quantizing each layer for a budget, measured, as a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import BatchSize, CalibImages, Data, Device, EvalImages, Html, Json, Workers
from qzoo.runtimes.registry import spelled

if TYPE_CHECKING:
    from qzoo.results.search import SearchReport
    from qzoo.zoo.zoo_model import ZooModel

RULES_INDENT = " " * 6
"""As `rules:` of a variant stand in a recipe."""


def run(
    name: Annotated[
        str,
        typer.Argument(help="A base, a variant, a recipe file; or the search.json of a search, for another budget."),
    ],
    max_drop: Annotated[float | None, typer.Option("--max-drop", help="Points of top-1 that may be lost.")] = None,
    bits: Annotated[float | None, typer.Option("--bits", help="Average bits of a weight.")] = None,
    size: Annotated[float | None, typer.Option("--size", help="Storage, in shares of the float model's.")] = None,
    macs_int: Annotated[
        float | None, typer.Option("--macs-int", help="Least share of multiply-accumulates on integers.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option("--latency", help="Latency in the target, in shares of the float model's.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help=f"The runtime: {spelled()}.")] = None,
    candidates: Annotated[
        str | None,
        typer.Option("--candidates", help="With commas between: w4a8, int8_mse, fp8, float ... Default: by target."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Layers that stay as the variant has them, a glob; repeatable.")
    ] = None,
    latency_table: Annotated[
        Path | None, typer.Option("--latency-table", help="A latency table of your own, in place of a measured one.")
    ] = None,
    data: Data = None,
    calib_images: CalibImages = None,
    eval_images: EvalImages = None,
    score_images: Annotated[int, typer.Option("--score-images", min=1, help="Images to score each layer on.")] = 128,
    points: Annotated[int, typer.Option("--points", min=0, help="Points of the curve.")] = 6,
    neighbours: Annotated[int, typer.Option("--neighbours", min=0, help="Choices tried beside the best.")] = 12,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the recipe to FILE.yaml.", metavar="FILE")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Add the variant to your own recipes: QZOO_RECIPES.")] = False,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    workers: Workers = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Choose how each layer is quantized, under a budget; measure the choice, and write it as a recipe.

    Layers are scored without labels. The scores are kept: another budget takes a second, without images.
    Exits with 1 if no choice that was measured keeps to --max-drop.

    Examples:

    - `qzoo search resnet8_digits --bits 4 -o mixed.yaml`
    - `qzoo search resnet20_cifar10 --max-drop 0.5 --data /data`
    - `qzoo search tf_efficientnet_lite0 --target onnxruntime --max-drop 0.1 --data /data/imagenet`
    - `qzoo search resnet8_digits_int8.search.json --size 0.15`
    """  # noqa: D412
    check_target(json_file)
    check_target(None if html is None else str(html), "--html")
    check_target(None if output is None else str(output), "-o")
    if apply:
        from qzoo.commands.searched_recipe import own_folder

        own_folder()
    budget = {"max_drop": max_drop, "bits": bits, "size": size, "macs_int": macs_int, "latency": latency}
    from qzoo.commands.searched_recipe import solution_of

    if name.endswith(".json"):
        from qzoo.commands.search_again import search_again

        start, report = search_again(Path(name), budget)
    else:
        from qzoo.cli.terminal.progress_bar import bar
        from qzoo.commands.search import search_named
        from qzoo.commands.settings import Settings
        from qzoo.zoo.name_lookup import find

        start, report = search_named(
            find(name),
            Settings(data, calib_images, eval_images, batch_size, device, workers),
            budget=budget, target=target, candidates=candidates.split(",") if candidates else None, keep=keep or (),
            latency_table=latency_table, score_images=score_images, points=points, neighbours=neighbours, progress=bar,
        )  # fmt: skip
    if json_file:
        write_json(report.to_json(), json_file)
    write_page(report, html, details_for(html, solution_of(start, report), device))
    _finish(start, report, output, apply, quiet=json_file == "-")
    sys.exit(0 if report.is_met else 1)


def _finish(start: ZooModel, report: SearchReport, output: Path | None, apply: bool, *, quiet: bool) -> None:
    from qzoo.commands import searched_recipe

    made = [searched_recipe.write_recipe(start, report, output)] if output else []
    made += [searched_recipe.apply(start, report)] if apply else []
    if quiet:
        return
    from qzoo.report.search import search_table

    for part in search_table(report):
        stdout.print(part)
    stdout.print(f"\nRules of the solution, to go under `rules:` of a variant made `from: {report.variant}`:")
    stdout.print(indent(report.rules_yaml(), RULES_INDENT).rstrip(), markup=False, highlight=False, soft_wrap=True)
    for name in made:
        stdout.print(f"\nrecipe: {name}   Next: qzoo calibrate {name}", highlight=False, soft_wrap=True)
