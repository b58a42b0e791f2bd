"""`qzoo doctor`: what this machine can run."""

from __future__ import annotations

import json

from rich.table import Table

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.options import Json


def run(json_file: Json = None) -> None:
    """Show what this machine can run, and which variant and runtime to choose.

    Examples:

    - `qzoo doctor`
    - `qzoo doctor --json`
    """  # noqa: D412
    from qzoo.commands.doctor import advice, facts

    check_target(json_file)
    found, said = facts(), list(advice())
    if json_file:
        write_json(json.dumps(found | {"advice": said}, indent=1), json_file)
    if json_file != "-":
        table = Table(box=None, pad_edge=False, show_header=False)
        for what, value in found.items():
            table.add_row(what, value)
        stdout.print(table)
        for sentence in said:
            stdout.print(sentence, soft_wrap=True)
