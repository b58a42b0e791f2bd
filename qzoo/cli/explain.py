"""`qzoo explain`: every quantizer of a variant with the rule that decided it, and all that stays in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated

import typer
from rich.table import Table

from qzoo.cli.terminal.console import stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.results.explanation import Explanation
from qzoo.schema.calibration import MADE_FROM

WIDE = 120
"""Columns from which on whole paths fit."""
LEAST_SHARE = 0.1
"""Percent of the weights from which on one is named that is of no layer."""
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
    from qzoo.zoo.tasks_by_name import explain

    found = explain(name)
    if json_file:
        write_json(found.to_json(), json_file)
        return
    stdout.print(_table(found))
    stdout.print()
    for line in _summary(found):
        stdout.print(line, highlight=False, soft_wrap=True)


def _table(found: Explanation) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("module", "quantizer", "spec", "decided by"):
        table.add_column(heading, no_wrap=heading != "decided by", overflow="fold")
    for q in found.quantizers:
        table.add_row(q.module or "(the model)", q.path.rpartition(".")[2], str(q.spec), _where(q.rule or ""))
    return table


def _summary(found: Explanation) -> Iterator[str]:
    roles = Counter({"input": 0, "weight": 0})
    roles.update(q.role for q in found.quantizers)
    counts = ", ".join(f"{count} {role}" for role, count in roles.items())
    left = len(found.left_float)
    yield f"{found.name}: {counts} quantizers; {left} layer{'' if left == 1 else 's'} in float."
    if found.ranges_from is not None:
        yield f"Ranges at hand are made from {MADE_FROM[found.ranges_from]}."
    for layer in found.left_float:
        rule = found.float_rules.get(layer)
        yield f"  float: {layer}{f'  ({_where(rule)})' if rule else ''}"
    for weight in found.float_weights:
        if weight.path.rpartition(".")[0] not in found.left_float and weight.weights >= LEAST_SHARE:
            multiplied = f", {weight.macs:.1f} % of the multiplications" if weight.macs else ""
            yield f"  float: {weight.path}  ({weight.weights:.1f} % of the weights{multiplied})"
    operators: dict[str, Counter[str]] = {}
    for operator in found.float_operators or ():
        kind = f"{operator.op}{' (residual)' if operator.residual else ''}"
        operators.setdefault(kind, Counter())[operator.module or "the model itself"] += 1
    if operators:
        yield "Operators in float (a rule `match: {op: NAME}` quantizes their inputs):"
    for op, modules in sorted(operators.items(), key=lambda item: -item[1].total()):
        more = f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
        yield f"  {modules.total():>4} {op:<28} {', '.join(list(modules)[:SHOWN])}{more}"


def _where(rule: str) -> str:
    """Returns field, file and line; in a narrow terminal the file without its folders."""
    field, _, place = rule.rpartition("  ")
    return f"{field} {place if stdout.width >= WIDE else PurePath(place).name}"
