"""`python -m benchmarks [--write]`: prints the table of timings; `--write` puts it into docs/benchmarks.md.

Every ratio compares two things measured in turn, A B A B ..., in one process: machines are shared and drift.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from benchmarks.document import asked_to_write, publish, where
from qzoo.quant.calibration.collecting import collecting, solve_ranges
from qzoo.quant.calibration.solvers import solve
from qzoo.quant.ranges import quantizers
from qzoo.schema.quantizer import Calibrator, QuantizerSpec

IMAGES, BATCH, THREADS, ROUNDS = 64, 32, 2, 5


class Row(NamedTuple):
    """One line of the table."""

    what: str
    value: str
    limit: str


def paired(subject: Callable[[], object], baseline: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Returns the median of subject / baseline, measured in turn, and the baseline's median in seconds."""
    subject(), baseline()
    ratios, seconds = [], []
    for _ in range(rounds):
        base = _seconds(baseline)
        ratios.append(_seconds(subject) / base)
        seconds.append(base)
    return statistics.median(ratios), statistics.median(seconds)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def forward_rows(name: str, make: Callable[[], nn.Module]) -> Iterator[Row]:
    """Yields the cost of collecting and of fake-quantization, as a share of the float forward."""
    torch.manual_seed(0)
    float_model = make().eval()
    batches = torch.randn(IMAGES, 3, 224, 224).split(BATCH)

    def run(model: nn.Module) -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    quantized = qzoo.quantize(float_model, "int8")
    inputs = quantizers(quantized, "input")

    def collect(histograms: bool) -> None:
        with collecting(quantized, histograms=inputs if histograms else ()):
            run(quantized)

    ratio, seconds = paired(lambda: collect(False), lambda: run(float_model))
    yield Row(f"{name}: float forward, {IMAGES} images", f"{seconds:.2f} s", "")
    yield Row(f"{name}: collecting maxima / float", f"{ratio:.3f}", "1.08")
    ratio, _ = paired(lambda: collect(True), lambda: run(float_model))
    yield Row(f"{name}: collecting histograms / float", f"{ratio:.3f}", "1.25")
    with collecting(quantized) as collection:
        run(quantized)
    solve_ranges(quantized, collection)
    ratio, _ = paired(lambda: run(quantized), lambda: run(float_model))
    yield Row(f"{name}: fake-quant evaluation / float", f"{ratio:.3f}", "1.20")


def solving_row() -> Row:
    """Returns the time to solve three methods for the inputs of ResNet-50's 54 layers with weights."""
    model = qzoo.create("resnet50_int8")
    with collecting(model) as collection, torch.inference_mode():
        model(torch.randn(BATCH, 3, 224, 224))
    histograms = [seen.histogram() for path, seen in collection.items() if "avgpool" not in path]  # type: ignore[union-attr]
    methods = [Calibrator.model_validate(m) for m in ({"percentile": 99.99}, "mse", "entropy")]

    def solve_all() -> list[Tensor]:
        return [solve(histograms, [QuantizerSpec(calibrator=method)] * len(histograms)) for method in methods]

    solve_all()
    seconds = statistics.median(_seconds(solve_all) for _ in range(ROUNDS))
    return Row(f"resnet50: percentile + mse + entropy for {len(histograms)} histograms", f"{seconds:.2f} s", "2 s")


def creation_row() -> Row:
    """Returns what quantizers add to the time of making a model."""
    ratio, _ = paired(lambda: qzoo.create("resnet50_int8"), torchvision.models.resnet50)
    return Row('qzoo.create("resnet50_int8") / torchvision.models.resnet50()', f"{ratio:.2f}", "1.3")


def list_row() -> Row:
    """Returns the time of `qzoo list`, as a whole process, from bytecode, as an installed command runs."""
    command = [sys.executable, "-m", "qzoo", "list"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder

        def run() -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

        run()
        seconds = statistics.median(_seconds(run) for _ in range(ROUNDS))
    return Row("`qzoo list`, compiled to bytecode before", f"{seconds:.2f} s", "0.5 s")


def table(rows: list[Row]) -> str:
    """Returns the rows as Markdown."""
    lines = ["| what | measured | at most |", "|---|---:|---:|"]
    return "\n".join(lines + [f"| {row.what} | {row.value} | {row.limit} |" for row in rows])


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks")
    torch.set_num_threads(THREADS)
    rows = [
        *forward_rows("resnet50", torchvision.models.resnet50),
        *forward_rows("tf_efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0")),
        solving_row(),
        creation_row(),
        list_row(),
    ]
    publish("cpu", f"{table(rows)}\n\nMedian of {ROUNDS} paired runs. {where(THREADS)}, batches of {BATCH}.", write)


if __name__ == "__main__":
    main()
