"""Timing a variant in a runtime against the float model in the same, and telling what ran on integers."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qzoo.arguments import checked
from qzoo.errors import UnsupportedError
from qzoo.models.bases import variant_name
from qzoo.models.example import runnable_example
from qzoo.models.quantize import float_copy
from qzoo.progress import Progress, phase, silent
from qzoo.quant.inputs import with_images
from qzoo.results.benchmark import BenchmarkReport, FloatOperator, Timing
from qzoo.runtimes.registry import runnable_runtime
from qzoo.runtimes.runtime import Kernel, Runtime, require
from qzoo.tasks.adapt import runnable_model
from qzoo.tasks.export import versions
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.measuring.machine import cpu_flags, environment
from qzoo.tasks.measuring.running import measuring


@checked
def benchmark(
    model: nn.Module,
    runtime: str = "onnxruntime",
    *,
    name: str = "",
    batches: Sequence[int] = (1, 8),
    threads: int | None = None,
    example: Any = None,
    adapt_on: Any = None,
    to_inputs: ToInputs = None,
    reduce_range: bool = False,
    progress: Progress = silent,
) -> BenchmarkReport:
    """Returns latencies of a calibrated model and of its float base in a runtime, measured side by side in one run.

    Args:
        model: calibrated, on the CPU; not changed. `qzoo.benchmark` takes the name of a variant too.
        runtime: `onnxruntime` or `openvino`.
        name: for the report; default: that of the variant.
        batches: sizes to measure.
        threads: the threads of the runtime; default: as many as torch uses.
        example: what the model is called with, as for `qzoo.export`; default: an image of the size that it is made for.
        adapt_on: images to adapt the model to the runtime on, see `qzoo.tasks.adapt`.
        to_inputs: as for `qzoo.calibrate`, of `adapt_on`.
        reduce_range: with `adapt_on`: weights of 7 bits, for CPUs without VNNI; without, it is warned on one.
        progress: shown the runs.

    Raises:
        UnsupportedError: the runtime does not run here, or torch can't trace the model.

    Example:
        >>> report = qzoo.benchmark("resnet8_digits_int8", "onnxruntime")
        >>> [timing.batch for timing in report.timings]
        [1, 8]
    """
    target = runnable_runtime(runtime)
    if target.kernels is None:
        own = f"Its own tool times it: {target.timer}."
        raise UnsupportedError(f"{target.title} does not tell its kernels to qzoo. {own}")
    with phase(progress, "loading onnxscript"):
        require("onnxscript")
        import onnx_ir as ir

        from qzoo.runtimes.named_inputs import named_inputs
        from qzoo.runtimes.to_onnx import float_to_onnx, to_onnx

    threads = threads or torch.get_num_threads()
    with measuring(model), tempfile.TemporaryDirectory() as folder:
        example, float_model = runnable_example(model) if example is None else example, float_copy(model)
        runnable = runnable_model(
            model, target, adapt_on, to_inputs=to_inputs, reduce_range=reduce_range, example=example, progress=progress
        )
        files = {"float": Path(folder) / "float.onnx", "quantized": Path(folder) / "quantized.onnx"}
        with phase(progress, "exporting float and quantized to ONNX"):
            graph = to_onnx(runnable, example, target)
            ir.save(graph, files["quantized"])
            ir.save(float_to_onnx(float_model, example), files["float"])
        with phase(progress, f"building {target.title} sessions"):
            sessions = {kind: target.session(file, threads, True) for kind, file in files.items()}
        feeds = [named_inputs(model, with_images(example, size)) for size in batches]
        timings = [_timing(sessions, one, size, progress) for one, size in zip(feeds, batches, strict=True)]
        with phase(progress, f"asking {target.title} for its kernels"):
            macs, additions, left = _on_integers(graph, target, target.kernels(files["quantized"]))
    return BenchmarkReport(
        name=name or variant_name(model),
        runtime=runtime,
        threads=threads,
        timings=timings,
        integer_macs=macs,
        integer_additions=additions,
        float_operators=left,
        cpu_flags=cpu_flags(),
        environment={**environment("cpu"), **versions()},
        date=time.strftime("%Y-%m-%d"),
    )


def _timing(sessions: dict[str, Any], inputs: dict[str, torch.Tensor], size: int, progress: Progress) -> Timing:
    from qzoo.runtimes.timing import BLOCK, BLOCKS, latency, side_by_side

    found: dict[str, list[int]] = defaultdict(list)
    runs = side_by_side(sessions, {name: tensor.numpy() for name, tensor in inputs.items()})
    for kind, nanoseconds in progress(runs, len(sessions) * BLOCKS * BLOCK, f"timing batches of {size}"):
        found[kind].append(nanoseconds)
    of_float, quantized = latency(found["float"]), latency(found["quantized"])
    return Timing(
        batch=size,
        float_ms=(of_float.low, of_float.median, of_float.high),
        quantized_ms=(quantized.low, quantized.median, quantized.high),
    )


def _on_integers(
    model: Any, runtime: Runtime, kernels: dict[str, Kernel]
) -> tuple[float, tuple[int, int], list[FloatOperator]]:
    """Returns the share of multiply-accumulates on integers, the additions that are, and what is not, with reasons."""
    from qzoo.runtimes.graph import nodes
    from qzoo.runtimes.lint import lint
    from qzoo.runtimes.rules.tensors import is_residual
    from qzoo.runtimes.timing import multiply_accumulates

    work = multiply_accumulates(model.graph)
    additions = [node.name or "" for node in nodes(model.graph, "Add") if is_residual(node)]
    found = [finding for finding in lint(model, runtime).findings if finding.rule != "saturation"]
    reasons = {finding.node: finding.message for finding in found}
    in_float = [name for name in (*work, *additions) if name not in kernels or not kernels[name].integer]
    integer = sum(macs for name, macs in work.items() if name not in in_float)
    left = [
        FloatOperator(
            node=name,
            kernel=kernels[name].name if name in kernels else "fused",
            reason=_reason(name, model.graph, reasons) or f"{runtime.title} did not choose an integer kernel for it",
        )
        for name in in_float
    ]
    done = sum(name not in in_float for name in additions)
    return integer / max(sum(work.values()), 1), (done, len(additions)), left


def _reason(name: str, graph: Any, reasons: dict[str, str]) -> str | None:
    """Returns what the rules say of a node, or of the quantizer after it, which it would have to write for."""
    from qzoo.runtimes.rules.layers import quantizer_after

    node = next((node for node in graph if node.name == name), None)
    after = None if node is None else quantizer_after(node)
    if name in reasons or after is None or after.name not in reasons:
        return reasons.get(name)
    return f"{after.name}: {reasons[after.name]}"
