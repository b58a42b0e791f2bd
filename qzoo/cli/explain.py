"""`qzoo explain`: every quantizer of a variant, and the rule that decided it."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from qzoo.cli.console import stderr, stdout, write_json
from qzoo.cli.options import Json
from qzoo.schema.catalog import Catalog
from qzoo.schema.resolve import Origin, resolve

NAME = "explain"
WIDE = 110
"""Columns from which on whole paths fit."""


def run(
    name: Annotated[str, typer.Argument(help="A variant, `resnet50_int8`, or `my.yaml:int8`.")],
    json_file: Json = None,
) -> None:
    """Explain a variant: each quantizer, its spec, and the rule, file and line that decided it.

    No weights are loaded; the model is built without memory for them.

    Examples:

    - `qzoo explain resnet50_int8`
    - `qzoo explain resnet50_mixed_example --json -`
    """  # noqa: D412
    from qzoo.build.bases import skeleton
    from qzoo.build.quantize import plan_quantizers
    from qzoo.cli.variant import chosen

    resolved = resolve(*chosen(Catalog.load(), name))
    model = skeleton(resolved.base)
    plan = plan_quantizers(model, resolved)
    if json_file:
        rows = [
            {"module": q.module, "role": q.role, "spec": q.spec.model_dump(), "rule": str(q.origin)}
            for q in plan.quantizers
        ]
        write_json(
            json.dumps({"name": resolved.name, "quantizers": rows, "float": plan.left_float}, indent=2),
            json_file,
        )
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("module", "role", "quantizer", "decided by"):
        table.add_column(heading, no_wrap=heading != "decided by", overflow="fold")
    for q in plan.quantizers:
        table.add_row(q.module, q.role, str(q.spec), escape(_where(q.origin)))
    stdout.print(table)
    counts = ", ".join(
        f"{sum(q.role == role for q in plan.quantizers)} {role}" for role in ("input", "weight", "output")
    )
    stdout.print(f"\n{resolved.name}: {counts} quantizers; {len(plan.left_float)} layers in float.")
    for layer in plan.left_float:
        stdout.print(f"  float: {layer}", highlight=False)
    if resolved.residual is not None:
        stderr.print("[yellow]note[/] residual quantizers are not placed by this version", highlight=False)


def _where(origin: Origin) -> str:
    """Returns field, file and line; in a narrow terminal the file without its folders."""
    file = origin.file if stdout.width >= WIDE else PurePath(origin.file).name
    return f"{origin.field} {file}:{origin.line}"
