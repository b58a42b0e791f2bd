"""`qzoo benchmark`: float against quantized in a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.html_page import details_for, write_page
from qzoo.cli.terminal.options import Adapt, Data, Html, Json, ReduceRange
from qzoo.runtimes.registry import RUNTIMES, spelled

if TYPE_CHECKING:
    from qzoo.results.benchmark import BenchmarkReport

SHOWN = 12
TIMED = [one for one in RUNTIMES.values() if one.kernels is not None]


def run(
    name: Annotated[str, typer.Argument(help="A variant with ranges, or a recipe file with one: FILE:VARIANT.")],
    runtime: Annotated[str, typer.Option("--runtime", "-r", help=f"{spelled(TIMED)}.")],
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Images at a time; may be repeated. Default: 1 and 8.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Default: one a core.", show_default=False)
    ] = None,
    adapt: Adapt = False,
    reduce_range: ReduceRange = False,
    data: Data = None,
    html: Html = None,
    json_file: Json = None,
) -> None:
    """Time a variant against its float base in the same runtime, side by side in one run.

    Both are exported, warmed up, and run in turn on random images; a speed-up is the ratio of medians. The share of
    multiply-accumulates in integer kernels is what the runtime itself says that it executes.

    Examples:

    - `qzoo benchmark resnet8_digits_int8 --runtime onnxruntime --adapt`
    - `qzoo benchmark resnet8_digits_int8 --runtime openvino --reduce-range`
    - `qzoo benchmark tf_efficientnet_lite0_int8_ort --runtime openvino --threads 2 --json lite0.json`
    """  # noqa: D412
    from qzoo.cli.terminal.progress_bar import bar
    from qzoo.progress import phase
    from qzoo.runtimes.registry import runnable_runtime
    from qzoo.tasks.benchmark import benchmark
    from qzoo.tasks.inputs.calibration_images import calibration_images
    from qzoo.zoo.data_free import create_with_ranges
    from qzoo.zoo.latency import keep_report
    from qzoo.zoo.name_lookup import find

    runnable_runtime(runtime)
    check_target(json_file)
    zoo_model = find(name)
    details = details_for(html, zoo_model)
    resolved = zoo_model.resolved
    with phase(bar, f"loading {zoo_model.name}"):
        spec, adapt = resolved.calibration, adapt or reduce_range
        seen = calibration_images(resolved.base, resolved.dataset, spec, data) if adapt else None
        model = create_with_ranges(zoo_model, {})
    title = resolved.name + (f"_for_{runtime}" if adapt else "")
    report = benchmark(
        model, runtime, name=title, batches=batch or (1, 8), threads=threads,
        adapt_on=seen, reduce_range=reduce_range, progress=bar,
    )  # fmt: skip
    kept = None if adapt else keep_report(zoo_model, report)
    if json_file:
        write_json(report.model_dump_json(indent=1), json_file)
    if json_file != "-":
        _print(report)
        if kept:
            stdout.print(f"Kept as {kept}: `qzoo list` shows it.", soft_wrap=True)
    write_page(report, html, details)


def _print(report: BenchmarkReport) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("batch", "float ms", "10-90 %", "quantized ms", "10-90 %", "speed"):
        table.add_column(heading, justify="right")
    for one in report.timings:
        pairs = (one.float_ms, one.quantized_ms)
        cells = [cell for low, median, high in pairs for cell in (f"{median:.2f}", f"{low:.2f}-{high:.2f}")]
        table.add_row(str(one.batch), *cells, f"{one.speed:.2f}x")
    done, additions = report.integer_additions
    flags = ", ".join(report.cpu_flags) or "none of those that matter"
    stdout.print(f"{report.name} in {report.runtime}, {report.threads} threads, {report.environment['cpu']}: {flags}")
    stdout.print(table)
    stdout.print(
        f"On integers: {100 * report.integer_macs:.1f} % of the multiply-accumulates, {done} of {additions} additions"
    )
    for one_left in report.float_operators[:SHOWN]:
        stdout.print(f"  in float: {one_left.node} ({one_left.kernel}): {one_left.reason}", soft_wrap=True)
    if len(report.float_operators) > SHOWN:
        stdout.print(f"  and {len(report.float_operators) - SHOWN} more; --json FILE has all")
