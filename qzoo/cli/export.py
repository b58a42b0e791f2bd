"""`qzoo export`: a variant as an ONNX file for a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.terminal.console import check_target, labelled, stderr, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import Adapt, Data, Html, Json, Ranges, ReduceRange, Runtime
from qzoo.errors import shown
from qzoo.results.export import Dynamic, Rest
from qzoo.runtimes.registry import REFERENCE, RUNTIMES, runtime_named, spelled

if TYPE_CHECKING:
    from qzoo.results.export import ExportReport, Parity
    from qzoo.zoo.zoo_model import ZooModel

SHOWN = 8
"""Findings that are printed; the JSON has all."""
HALF = [one for one in RUNTIMES.values() if one.half]


def run(
    name: Annotated[str, typer.Argument(help="A variant with ranges, or a recipe file with one: FILE:VARIANT.")],
    runtime: Runtime,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: NAME.RUNTIME.onnx here.", show_default=False)
    ] = None,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=0, help="How many to compare on; 0: none.")] = 32,
    ranges: Ranges = None,
    adapt: Adapt = False,
    reduce_range: ReduceRange = False,
    rest: Annotated[
        Rest, typer.Option("--rest", help=f"Type of what is not quantized; fp16 for {spelled(HALF)} alone.")
    ] = "fp32",
    int4: Annotated[
        bool, typer.Option("--int4", help="Store weights of 4 bits in 4: half the file, float on CPUs.")
    ] = False,
    dynamic: Annotated[
        Dynamic, typer.Option("--dynamic", help="What may be of any size: the batch; images too; nothing.")
    ] = "batch",
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Write a calibrated variant as an ONNX file with explicit quantization, checked and compared.

    Each quantizer becomes one QuantizeLinear/DequantizeLinear pair of exactly its scale. The file is held against the
    runtime's rules, and the runtime against the fake-quantized model, on real images.

    Exit code 1: a rule is broken, a quantizer that is fed rightly is more than one step off, or the runtime predicts
    otherwise for a tenth of the images, or gives logits that are off by 5 % of the largest.

    Examples:

    - `qzoo export resnet8_digits_int8 --runtime onnxruntime --adapt`
    - `qzoo export resnet50_int8_residual --runtime tensorrt -o resnet50.onnx --data /data/imagenet`
    - `qzoo export resnet50_int8_residual --runtime tensorrt --rest fp16`
    - `qzoo export tf_efficientnet_lite0_int8_ort --runtime openvino --data /data --json lite0.json`
    - `qzoo export resnet50_int8 --runtime onnxruntime --adapt --data /data/imagenet`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.commands.export import export_named
    from qzoo.zoo.name_lookup import find

    title = runtime_named(runtime).title
    check_target(json_file)
    zoo_model = find(name)
    details = details_for(html, zoo_model)
    target = output or Path(f"{zoo_model.resolved.name}.{runtime}.onnx")
    check_target(str(target), "--output")
    report, reason = export_named(
        zoo_model, target, runtime, data=data, images=images, ranges=ranges, dynamic=dynamic,
        adapt=adapt or reduce_range, reduce_range=reduce_range, rest=rest, int4=int4, details=details,
        progress=bar,
    )  # fmt: skip
    if json_file:
        write_json(report.model_dump_json(indent=1), json_file)
    if json_file != "-":
        _print(report, title)
    write_page(report, html, details)
    if report.parity is None:
        stderr.print(f"note: not compared with the model: {reason}", soft_wrap=True)
    if _tell_of_errors(report, title, zoo_model, adapted=adapt or reduce_range):
        raise typer.Exit(1)


def _print(report: ExportReport, title: str) -> None:
    share = report.bytes / report.float_bytes
    stdout.print(
        f"{report.file}: {report.name} for {title}, {report.bytes / 1e6:.2f} MB ({share:.2f} of float), "
        f"{report.quantized_layers} of {report.layers} layers quantized", soft_wrap=True,
    )  # fmt: skip
    for finding in report.notes[:SHOWN]:
        stdout.print(f"  {finding}", soft_wrap=True, markup=False)
    if report.parity is not None:
        stdout.print(_parity(report.parity, title), soft_wrap=True)


def _parity(parity: Parity, title: str) -> str:
    worst = max((node.alone for node in parity.nodes), default=0)
    by = title if parity.own_runtime else f"{REFERENCE.title} without optimizations, in place of {title},"
    plain = f" (without optimizations {parity.agreement_plain:.1f} %)" if parity.own_runtime else ""
    alone = f"; each of {len(parity.nodes)} quantizers, fed rightly, within {worst} step{'' if worst == 1 else 's'}"
    return (
        f"Compared on {parity.images} images: {by} predicts the same for {parity.agreement:.1f} %{plain}, "
        f"logits within {parity.logit_difference:.2g} of {parity.largest_logit:.3g}{alone if parity.nodes else ''}"
    )


def _tell_of_errors(report: ExportReport, title: str, zoo_model: ZooModel, *, adapted: bool) -> bool:
    from qzoo.commands.export import fitting_variants

    errors = report.errors
    for finding in errors[:SHOWN]:
        stderr.print(labelled("error", "red", f" {shown(finding)}"), soft_wrap=True)
    if len(errors) > SHOWN:
        stderr.print(f"... and {len(errors) - SHOWN} more; --json FILE has all.")
    if errors and not adapted:
        scheme = runtime_named(report.runtime).scheme
        fitting = fitting_variants(zoo_model, scheme)
        advice = f"such as {fitting[0]}" if fitting else f"in a recipe: `scheme: {scheme}`"
        stderr.print(
            f"{report.name} does not fit {title}. A variant of scheme {scheme} does, {advice}. "
            "--adapt derives one from the same ranges.",
            soft_wrap=True,
        )
    if report.fault:
        stderr.print(labelled("error", "red", f" {report.fault}"), soft_wrap=True)
    return bool(errors or report.fault)
