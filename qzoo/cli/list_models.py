"""`qzoo list`: what is in the zoo."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import Annotated

import typer
from rich.table import Table

from qzoo.cli.console import stdout, write_json
from qzoo.cli.options import Json
from qzoo.schema.catalog import Catalog

NAME = "list"


def run(
    pattern: Annotated[str, typer.Argument(help="A glob over full names: `resnet*_int8`.")] = "*",
    json_file: Json = None,
) -> None:
    """List the bases and variants of the zoo.

    Examples:

    - `qzoo list`
    - `qzoo list 'resnet20_*'`
    - `qzoo list --json -`
    """  # noqa: D412
    catalog = Catalog.load()
    rows = [(entry, [v for v in entry.variants if fnmatch(f"{entry.name}_{v}", pattern)]) for entry in catalog.entries]
    rows = [(entry, variants) for entry, variants in rows if variants or fnmatch(entry.name, pattern)]
    if json_file:
        names = {entry.name: [f"{entry.name}_{v}" for v in variants] for entry, variants in rows}
        write_json(json.dumps(names, indent=2), json_file)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("base", "dataset", "float top-1", "variants"):
        table.add_column(heading, justify="right" if heading == "float top-1" else "left")
    for entry, variants in rows:
        top1 = next((f"{claim.top1:g}" for claim in entry.recipe.published if claim.top1 is not None), "")
        table.add_row(entry.name, entry.recipe.dataset, top1, ", ".join(variants))
    stdout.print(table)
    if not rows:
        stdout.print(f"Nothing matches '{pattern}'. `qzoo list` shows everything.")
