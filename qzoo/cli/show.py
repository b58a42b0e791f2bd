"""`qzoo show`: a recipe, or one resolved variant."""

from __future__ import annotations

from typing import Annotated

import typer

from qzoo.cli.terminal.console import labelled, stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.errors import shown

LONGEST_RULE = 2_000


def run(
    name: Annotated[str, typer.Argument(help="A base, a variant, or a recipe file.")],
    json_file: Json = None,
) -> None:
    """Show a recipe, or what a variant comes to once scheme and `from` are resolved.

    Examples:

    - `qzoo show resnet50`
    - `qzoo show resnet50_int8_entropy`
    """  # noqa: D412
    from rich.syntax import Syntax

    from qzoo.schema.finetune import schedule_rows
    from qzoo.schema.optimize import step_rows
    from qzoo.schema.reading.loading import dump_yaml
    from qzoo.zoo.name_lookup import find

    zoo_model = find(name)
    entry = zoo_model.entry
    if zoo_model.variant is None:
        if json_file:
            write_json(entry.recipe.model_dump_json(by_alias=True, exclude_none=True, indent=2), json_file)
        else:
            stdout.print(labelled(f"# {shown(entry.path)}", "dim", ""))
            stdout.print(Syntax(dump_yaml(entry.recipe), "yaml", background_color="default"))
        return
    resolved = zoo_model.resolved
    if json_file:
        write_json(resolved.to_json(), json_file)
        return
    stdout.print(labelled(resolved.name, "bold", f"@{resolved.version}  digest {resolved.digest[:12]}"))
    base = resolved.base
    stdout.print(f"base         {base.source}/{shown(base.architecture)} {shown(base.weights or '')}", soft_wrap=True)
    stdout.print(f"dataset      {shown(resolved.dataset)}", soft_wrap=True)
    calibration = resolved.calibration
    stdout.print(f"calibration  {calibration.images:,} {shown(calibration.sampled)}, {calibration.binning} binning")
    for rule in resolved.rules:
        stdout.print(f"rule         {shown(rule, LONGEST_RULE)}", soft_wrap=True)
    for step, words in step_rows(resolved.optimize) if resolved.optimize else ():
        stdout.print(f"optimize     {step}: {words}", soft_wrap=True)
    if resolved.finetune is not None:
        words = "; ".join(f"{what} {value}" for what, value in schedule_rows(resolved.finetune))
        stdout.print(f"training     {words}", soft_wrap=True)
    for claim in resolved.published:
        stdout.print(f"published    {shown(claim)}  ({shown(claim.source)})", soft_wrap=True)
    explain = f"qzoo explain {zoo_model.address}{zoo_model.code_option}"
    stdout.print(f"\nEvery quantizer with the rule that decided it: {explain}")
