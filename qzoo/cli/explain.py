"""`qzoo explain`: every quantizer of a variant with the rule that decided it, and all that stays in float."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any

import typer
from rich.table import Table

from qzoo.cli.terminal.console import stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.schema.bound_rule import Origin
from qzoo.schema.plan import Operator, Plan
from qzoo.schema.resolve import ResolvedVariant

WIDE = 120
"""Columns from which on whole paths fit."""
SHOWN = 3
"""Modules that are named for each operator in float."""


def run(
    name: Annotated[str, typer.Argument(help="A variant: `resnet50_int8`, `my.yaml:int8`, `timm/resnet18:int8`.")],
    json_file: Json = None,
) -> None:
    """Explain a variant: each quantizer, its spec, and the rule, file and line that decided it.

    Below the table stands what a quantized path crosses in float: layers, and functional operators.
    No weights are loaded; the model is built without memory for them.

    Examples:

    - `qzoo explain resnet50_int8`
    - `qzoo explain resnet50_int8_residual | grep residual_quantizer`
    - `qzoo explain timm/vit_small_patch16_224:int8_vit`
    - `qzoo explain resnet50_mixed_example --json -`
    """  # noqa: D412
    from qzoo.models.bases import meta_model
    from qzoo.models.quantize import plan_quantizers
    from qzoo.zoo.finding import find

    resolved = find(name).resolved
    plan = plan_quantizers(meta_model(resolved.base), resolved, whole=True)
    if json_file:
        write_json(json.dumps(_facts(resolved, plan), indent=2), json_file)
        return
    stdout.print(_table(plan))
    stdout.print()
    for line in _summary(resolved, plan):
        stdout.print(line, highlight=False, soft_wrap=True)


def _facts(resolved: ResolvedVariant, plan: Plan) -> dict[str, Any]:
    rows = [
        {"path": q.path, "module": q.module, "role": q.role, "spec": q.spec.model_dump(), "rule": str(q.origin)}
        for q in plan.quantizers
    ]
    operators = [{"module": o.module, "op": o.site.op, "residual": o.skip is not None} for o in _computing(plan)]
    return {"name": resolved.name, "quantizers": rows, "float": plan.left_float, "float_operators": operators}


def _table(plan: Plan) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("module", "quantizer", "spec", "decided by"):
        table.add_column(heading, no_wrap=heading != "decided by", overflow="fold")
    for q in plan.quantizers:
        table.add_row(q.module or "(the model)", q.name, str(q.spec), _where(q.origin))
    return table


def _summary(resolved: ResolvedVariant, plan: Plan) -> Iterator[str]:
    roles = Counter({"input": 0, "weight": 0})
    roles.update(q.role for q in plan.quantizers)
    counts = ", ".join(f"{count} {role}" for role, count in roles.items())
    yield f"{resolved.name}: {counts} quantizers; {len(plan.left_float)} layers in float."
    for layer in plan.left_float:
        yield f"  float: {layer}"
    operators: dict[str, Counter[str]] = {}
    for operator in _computing(plan):
        kind = f"{operator.site.op}{' (residual)' if operator.skip else ''}"
        operators.setdefault(kind, Counter())[operator.module or "the model itself"] += 1
    if operators:
        yield "Operators in float (a rule `match: {op: NAME}` quantizes their inputs):"
    for op, modules in sorted(operators.items(), key=lambda item: -item[1].total()):
        more = f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
        yield f"  {modules.total():>4} {op:<28} {', '.join(list(modules)[:SHOWN])}{more}"


def _computing(plan: Plan) -> list[Operator]:
    from qzoo.quant.operators import MOVES

    return [operator for operator in plan.float_operators if operator.site.op not in MOVES]


def _where(origin: Origin) -> str:
    """Returns field, file and line; in a narrow terminal the file without its folders."""
    file = origin.file if stdout.width >= WIDE else PurePath(origin.file).name
    return f"{origin.field} {file}:{origin.line}"
