"""`qzoo pull`: fetch a hub model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import labelled, stdout
from qzoo.errors import shown


def run(
    repo: Annotated[str, typer.Argument(help="OWNER/REPO or OWNER/REPO@REVISION.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder for a copy, to carry elsewhere.", show_default=False),
    ] = None,
) -> None:
    """Fetch a hub model with all its files, each checked against the manifest.

    Examples:

    - `qzoo pull owner/resnet50_int8`
    - `qzoo pull owner/resnet50_int8@v1 -o resnet50_int8`  then, without a network:
      `qzoo.create("resnet50_int8", pretrained=True)` in the folder above
    """  # noqa: D412
    from qzoo.commands.release.pull import pull

    released = pull(repo, output)
    manifest = released.manifest
    stdout.print(labelled(shown(manifest.name), "bold", f"@{manifest.version}, by qzoo {shown(manifest.qzoo)}"))
    for name, facts in manifest.files.items():
        stdout.print(f"{facts.bytes:>12,}  {name}", highlight=False)
    stdout.print(f"in {released.folder}", highlight=False, soft_wrap=True, markup=False)
    load = f"./{output}" if output and len(output.parts) == 1 else str(output or released.name)
    stdout.print(f'load it:  qzoo.create("{load}", pretrained=True)', markup=False, soft_wrap=True)
