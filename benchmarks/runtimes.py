"""`python -m benchmarks.runtimes [--write]`: what makes an int8 graph fast, step by step. docs/benchmarks.md gets it.

One float model, exported as four int8 graphs: as most tools do, then with one thing more done right each time. Latency
depends on shapes alone, so weights are random, and ranges those of random images.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import timm
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from benchmarks.document import DOCUMENTS, asked_to_write, publish, runtimes, where
from qzoo.quant.ranges import quantizers
from qzoo.quant.same_tensor import quantizers_by_tensor
from qzoo.report.markdown import table
from qzoo.runtimes.registry import RUNTIMES
from qzoo.runtimes.runtime import Runtime, Session
from qzoo.runtimes.timing import latency, side_by_side
from qzoo.runtimes.to_onnx import float_to_onnx, to_onnx
from qzoo.tasks.measuring.machine import cpu_flags

THREADS, BATCHES = 2, (1, 8)
HEADINGS = [
    "model",
    "graph",
    *(f">{title}, batch {size}" for title in ("ONNX Runtime", "OpenVINO") for size in BATCHES),
]
MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": torchvision.models.resnet50,
    "tf_efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
}


@dataclass(frozen=True)
class Step:
    """A way of exporting.

    Attributes:
        name: for the table.
        scheme: of the quantizers.
        residual: which inputs of additions have one.
        without: what of a runtime's wishes is not met.
        apart: quantizers of one tensor have ranges of their own.
    """

    name: str
    scheme: str
    residual: str
    without: dict[str, Any]
    apart: bool = True


NAIVE = {"folds": False, "shifted": False}
STEPS = [
    Step("naive: signed, batch norm kept, skip quantized, a range for each reader", "int8", "skip", NAIVE),
    Step("+ batch norm folded", "int8", "skip", NAIVE | {"folds": True}),
    Step("+ unsigned after ReLU, one type", "int8_ort", "skip", {}),
    Step("+ both inputs of additions", "int8_ort", "both", {}),
    Step("+ one range for each tensor: what `qzoo export` writes", "int8_ort", "both", {}, apart=False),
]


def part_ranges(model: nn.Module, x: Tensor) -> None:
    """Gives the quantizers of one tensor ranges that differ a little, as if each had been learned alone, in place."""
    for group in quantizers_by_tensor(model, x):
        for place, path in enumerate(group):
            quantizer = quantizers(model)[path]
            quantizer.set_amax(quantizer.amax * 1.01**place)


def sessions(model: nn.Module, runtime: Runtime, folder: Path) -> Iterator[tuple[str, Session]]:
    """Yields the float graph and those of the steps, loaded."""
    x = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    graphs = [("float", float_to_onnx(model, x[:1]))]
    for step in STEPS:
        quantized = qzoo.quantize(model, step.scheme, residual=step.residual, example=x[:1])
        qzoo.calibrate(quantized, [x])
        if step.apart:
            part_ranges(quantized, x[:1])
        graphs.append((step.name, to_onnx(quantized, x[:1], replace(runtime, **step.without))))
    for number, (name, graph) in enumerate(graphs):
        file = folder / f"{number}.onnx"
        ir.save(graph, file)
        yield name, runtime.session(file, THREADS, True)


def medians(made: dict[str, Session], size: int) -> dict[str, float]:
    """Returns the milliseconds of a batch, by graph."""
    x = torch.randn((size, 3, 224, 224), generator=torch.Generator().manual_seed(0)).numpy()
    found: dict[str, list[int]] = defaultdict(list)
    for name, nanoseconds in side_by_side(made, {"images": x}):
        found[name].append(nanoseconds)
    return {name: latency(times).median for name, times in found.items()}


def measure() -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """Yields model, graph, and for each column milliseconds and how many times as fast as float."""
    for model_name, make in MODELS.items():
        torch.manual_seed(0)
        model = make().eval()
        columns = []
        for runtime in (RUNTIMES["onnxruntime"], RUNTIMES["openvino"]):
            with tempfile.TemporaryDirectory() as folder:
                made = dict(sessions(model, runtime, Path(folder)))
                columns += [medians(made, size) for size in BATCHES]
        for name in columns[0]:
            yield model_name, name, [(column[name], column["float"] / column[name]) for column in columns]


def draw(rows: list[tuple[str, str, list[tuple[float, float]]]], file: Path) -> None:
    """Writes the speeds as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9.5), dpi=110, layout="constrained")
    colors = ["#94a3b8", "#cbd5e1", "#7dd3fc", "#38bdf8", "#0284c7", "#0f766e"]
    for axes, model in zip(figure.subplots(len(MODELS), 1, sharex=True), MODELS, strict=True):
        own = [(name, [speed for _, speed in cells]) for of, name, cells in rows if of == model]
        for place, ((name, speeds), color) in enumerate(zip(own, colors, strict=True)):
            at = [column - place * 0.14 for column in range(len(speeds), 0, -1)]
            bars = axes.barh(at, speeds, height=0.13, color=color, label=name)
            axes.bar_label(bars, [f"{speed:.2f}" for speed in speeds], fontsize=7, padding=2)
        axes.set_yticks(
            [column - 0.35 for column in range(4, 0, -1)], [heading[1:] for heading in HEADINGS[2:]], fontsize=8
        )
        axes.axvline(1, color="#64748b", linewidth=0.8)
        axes.set_title(model, loc="left", fontsize=10, fontweight="bold")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.set_xlabel("times as fast as the float graph in the same run", fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(file)


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks.runtimes")
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    rows = list(measure())
    cells = [[model, name, *(f"{ms:.1f} ms, {speed:.2f}x" for ms, speed in found)] for model, name, found in rows]
    facts = f"{where(THREADS)}, {runtimes()}; CPU flags: {', '.join(cpu_flags())}"
    publish("runtimes", f"{table(HEADINGS, cells)}\n\nMedians; float and quantized in one run. {facts}.", write)
    if write:
        draw(rows, DOCUMENTS / "runtimes.png")


if __name__ == "__main__":
    main()
