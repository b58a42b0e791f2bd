"""`qzoo zoo`: the zoo as a page to browse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.command_line import typed
from qzoo.cli.terminal.console import check_target, stdout
from qzoo.schema.reading.yaml_source import short_path


def run(
    html: Annotated[Path, typer.Option("--html", help="The file to write.", metavar="FILE")],
    pattern: Annotated[str, typer.Argument(help="A glob over full names: `resnet*`.")] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only variants that have ranges: on this machine, or on the hub.")
    ] = False,
) -> None:
    """Write the zoo as one page to browse: figures, sizes, costs, latencies, recipes and commands.

    The file needs no network. What you measured on this machine is in it, marked as such.

    Examples:

    - `qzoo zoo --html zoo.html`
    - `qzoo zoo 'resnet20_*' --html resnet20.html`
    """  # noqa: D412
    from qzoo.commands.zoo import write_zoo

    check_target(str(html), "--html")
    rows = write_zoo(html, pattern, pretrained=pretrained, command=typed())
    stdout.print(f"{len(rows)} models in {short_path(html)}", soft_wrap=True)
