"""`qzoo recommend`: which variant to ship, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from qzoo.cli.terminal.console import check_target, labelled, stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.errors import LONGEST_NAME, shown
from qzoo.runtimes.registry import RUNTIMES, spelled

if TYPE_CHECKING:
    from qzoo.results.recommendation import KnownFigure, Recommendation


def run(
    name: Annotated[str, typer.Argument(help="A base, a recipe file, or any model: timm/resnet18; or one variant.")],
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help=f"{spelled()}. Default: what runs here.", show_default=False),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", help="Points of top-1 that may be lost.", show_default=False)
    ] = None,
    json_file: Json = None,
) -> None:
    """Recommend a variant for a runtime on this machine, with the flags to export it with, and why.

    Known are recipes, receipts, and what `qzoo search` and `qzoo benchmark` measured here. Every figure has its source;
    for what nobody measured, there is the command that does.

    Exit code 1: nothing that is known meets --max-drop.

    Examples:

    - `qzoo recommend resnet20_cifar10 --target onnxruntime --max-drop 0.5`
    - `qzoo recommend timm/resnet18 --target tensorrt`
    - `qzoo recommend resnet8_digits --json`
    """  # noqa: D412
    from qzoo.commands.recommend import recommend

    check_target(json_file)
    found = recommend(name, target, max_drop=max_drop)
    if json_file:
        write_json(found.to_json(), json_file)
    if json_file != "-":
        for part in _parts(found):
            stdout.print(part, soft_wrap=not isinstance(part, Table))
    if found.variant is None:
        raise typer.Exit(1)


def _parts(found: Recommendation) -> Iterator[RenderableType]:
    yield f"{found.name} for {RUNTIMES[found.target].title} on {shown(found.machine)}"
    what = found.variant or "nothing that is known"
    point = f", point '{shown(found.point)}' of its search" if found.point else ""
    yield labelled("ship", "bold green" if found.variant else "bold red", f"  {what}{point}")
    yield labelled("type", "bold", f"  {found.command}")
    for reason in found.advice.reasons:
        yield labelled("why", "bold", f"   {reason}")
    if found.figures:
        yield _table(found.figures)
    for one in found.unknown:
        yield labelled("not known", "yellow", f"  {one.what}{'' if one.command is None else f': {one.command}'}")
    for reason in dict.fromkeys(left.reason for left in found.left_out):
        names = [shown(left.name, LONGEST_NAME) for left in found.left_out if left.reason == reason]
        yield labelled("left out", "dim", f"  {', '.join(names)}: {reason}")


def _table(figures: list[KnownFigure]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("known", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("of", overflow="fold")
    table.add_column("source", overflow="fold")
    for one in figures:
        sign = "+" if one.quantity == "drop" else ""
        table.add_row(one.quantity, f"{one.value:{sign}.2f} {one.unit}", one.of, shown(one.source))
    return table
