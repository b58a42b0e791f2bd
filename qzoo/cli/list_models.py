"""`qzoo list`: what is in the zoo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.terminal.console import check_target, stderr, stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.errors import some
from qzoo.report.zoo_table import bases_table, legend, variants_table
from qzoo.runtimes.registry import spelled
from qzoo.zoo.table import zoo_table
from qzoo.zoo.table_selection import COLUMNS, Selection

if TYPE_CHECKING:
    from qzoo.results.zoo import ZooRow

ALL = "*"


def run(
    pattern: Annotated[str, typer.Argument(help="A glob over full names: `resnet*_int8`.")] = ALL,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only variants that have ranges: on this machine, or on the hub.")
    ] = False,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only models of a dataset.")] = None,
    min_top1: Annotated[
        float | None, typer.Option("--min-top1", help="In percent; of figures on whole splits, or published ones.")
    ] = None,
    max_size: Annotated[float | None, typer.Option("--max-size", help="In MB.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help=f"Only variants whose formats it takes: {spelled()}.")
    ] = None,
    sort: Annotated[str | None, typer.Option("--sort", help=f"The best first: {', '.join(COLUMNS)}.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="All columns, however wide the terminal is.")] = False,
    facts: Annotated[
        bool, typer.Option("--facts", help="Compute what is not known of recipes of your own, and keep it.")
    ] = False,
    json_file: Json = None,
) -> None:
    """List the bases and variants of the zoo.

    Without a pattern or a filter, a line for each base; else a line for each variant. Sizes are those of packed
    weights; what is not known is empty.

    Examples:

    - `qzoo list`
    - `qzoo list 'resnet20_*' --sort drop`
    - `qzoo list --min-top1 75 --max-size 10 --target onnxruntime --sort size`
    - `qzoo list --pretrained`
    - `qzoo list --json -`
    """  # noqa: D412
    check_target(json_file)
    wanted = Selection(pretrained, dataset, min_top1, max_size, target, sort)
    rows = zoo_table(
        pattern, pretrained=pretrained, dataset=dataset, min_top1=min_top1, max_size=max_size, target=target,
        sort=sort, compute=facts,
    )  # fmt: skip
    if json_file:
        write_json(f"[{', '.join(row.model_dump_json() for row in rows)}]", json_file)
    if json_file == "-":
        return
    _print(rows, whole=pattern == ALL and wanted.is_everything, width=None if wide else stdout.width)
    unknown = sorted({row.base for row in rows if row.float_bytes is None})
    if unknown and not facts:
        stderr.print(f"Sizes and costs are not known yet: {some(unknown)}. --facts computes them.", soft_wrap=True)
    if not rows:
        stdout.print(f"Nothing matches {_asked(pattern, wanted)}. `qzoo list` shows everything.", soft_wrap=True)


def _print(rows: Sequence[ZooRow], *, whole: bool, width: int | None) -> None:
    for number, line in enumerate((bases_table if whole else variants_table)(rows, width) if rows else ()):
        stdout.print(line, style="" if number else "bold", soft_wrap=True)
    for line in legend([row for row in rows if not whole or row.variant in (None, "int8")]):
        stdout.print(line)


def _asked(pattern: str, wanted: Selection) -> str:
    """Returns what was asked for, as it was typed."""
    given = {
        "--dataset": wanted.dataset, "--min-top1": wanted.min_top1, "--max-size": wanted.max_size,
        "--target": wanted.target,
    }  # fmt: skip
    options = [f"{option} {value:g}" if isinstance(value, float) else f"{option} {value}"
               for option, value in given.items() if value is not None]  # fmt: skip
    return " ".join([f"'{pattern}'", *options, *(["--pretrained"] if wanted.pretrained else [])])
