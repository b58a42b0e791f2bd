"""`qzoo lint`: a quantized ONNX file against the rules of a runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import check_target, labelled, stdout, write_json
from qzoo.cli.terminal.options import Json, Runtime
from qzoo.errors import shown


def run(
    file: Annotated[Path, typer.Argument(help="An ONNX file, of qzoo or of anybody else.")],
    runtime: Runtime,
    json_file: Json = None,
) -> None:
    """Hold a quantized ONNX file against the rules of a runtime, without running it.

    Exit code 1: a rule is broken.

    Examples:

    - `qzoo lint model.onnx --runtime onnxruntime`
    - `qzoo lint model.onnx -r tensorrt --json findings.json`
    """  # noqa: D412
    from qzoo.tasks.lint import lint

    check_target(json_file)
    report = lint(file, runtime)
    if json_file:
        write_json(json.dumps([one.model_dump() for one in report.findings], indent=1), json_file)
    if json_file != "-":
        for finding in report.findings:
            color = "red" if finding.level == "error" else "yellow"
            stdout.print(labelled(finding.level, color, f" {shown(finding)}"), soft_wrap=True)
        found = f"{len(report.errors)} errors, {len(report.notes)} notes for {report.runtime.title}"
        summary = f"{file}: {report.quantized} of {report.layers} layers quantized, {found}"
        stdout.print(summary, soft_wrap=True, markup=False)
    if report.errors:
        raise typer.Exit(1)
