"""`qzoo list`: what is in the zoo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Annotated

import typer
from rich.table import Table

from qzoo.cli.terminal.console import stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.errors import LONGEST_NAME, shown
from qzoo.schema.reading.recipe_files import RecipeSummary, summaries


def run(
    pattern: Annotated[str, typer.Argument(help="A glob over full names: `resnet*_int8`.")] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only variants that have ranges: on this machine, or on the hub.")
    ] = False,
    json_file: Json = None,
) -> None:
    """List the bases and variants of the zoo.

    Examples:

    - `qzoo list`
    - `qzoo list 'resnet20_*'`
    - `qzoo list --pretrained`
    - `qzoo list --json -`
    """  # noqa: D412
    rows = list(_rows(pattern, pretrained))
    if json_file:
        names = {base.name: [f"{base.name}_{variant}" for variant in variants] for base, variants in rows}
        write_json(json.dumps(names, indent=2), json_file)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("base", "dataset", "float top-1", "variants"):
        table.add_column(heading, justify="right" if heading == "float top-1" else "left")
    for base, variants in rows:
        top1 = "" if base.top1 is None else f"{base.top1:g}"
        table.add_row(base.name, shown(base.dataset, LONGEST_NAME), top1, ", ".join(variants))
    stdout.print(table)
    if not rows:
        stdout.print(f"Nothing matches '{pattern}'. `qzoo list` shows everything.")


def _at_hand(base: str, variants: list[str]) -> Iterator[str]:
    """Yields the variants that have ranges, with what these were made from if not from images."""
    from qzoo.zoo.data_free import origin
    from qzoo.zoo.name_lookup import is_at_hand

    for variant in variants:
        name = f"{base}_{variant}"
        source = origin(name)
        if is_at_hand(name) or source is not None:
            yield variant if source in (None, "images") else f"{variant} ({source})"


def _rows(pattern: str, pretrained: bool) -> Iterator[tuple[RecipeSummary, list[str]]]:
    """Yields the bases that match, with their variants that do."""
    for base in summaries():
        variants = [variant for variant in base.variants if fnmatch(f"{base.name}_{variant}", pattern)]
        if pretrained:
            variants = list(_at_hand(base.name, variants))
        if variants or (fnmatch(base.name, pattern) and not pretrained):
            yield base, variants
