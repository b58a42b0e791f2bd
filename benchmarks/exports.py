"""`python -m benchmarks.exports [--write]`: six models exported for three runtimes. docs/benchmarks.md gets the table.

What is exported depends on shapes and operators, not on what a model has learned, so weights are random, with batch
norm's statistics of the images that ranges are calibrated on too.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import timm
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from benchmarks.document import asked_to_write, publish, where
from qzoo.report.markdown import table
from qzoo.runtimes.lint import lint
from qzoo.runtimes.parity import measure_parity
from qzoo.runtimes.registry import RUNTIMES
from qzoo.runtimes.runtime import Runtime
from qzoo.runtimes.to_onnx import to_onnx

THREADS = 2
MODELS = ("resnet18", "resnet50", "mobilenet_v2", "tf_efficientnet_lite0", "vit_b_16", "swin_t")
HEADINGS = [
    "model",
    "runtime",
    ">seconds",
    ">file / float",
    ">layers on integers",
    ">Q/DQ pairs",
    ">worst, steps",
]


def base(name: str, images: Tensor) -> nn.Module:
    """Returns a float model with random weights, none of them zero."""
    torch.manual_seed(0)
    model = timm.create_model(name) if name in timm.list_models("tf_*") else torchvision.models.get_model(name)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def exported(model: nn.Module, runtime: Runtime, images: Tensor, file: Path) -> list[str]:
    """Writes a model for a runtime; returns the cells of its row."""
    residual = "skip" if runtime.residual == "skip" else None
    quantized = qzoo.quantize(model, runtime.scheme, residual=residual, example=images[:1])
    qzoo.calibrate(quantized, [images])
    started = time.perf_counter()
    graph = to_onnx(quantized, images[:1], runtime)
    ir.save(graph, file)
    seconds = time.perf_counter() - started
    report, parity = lint(graph, runtime), measure_parity(quantized, file, runtime, [images])
    assert not report.errors, report.errors
    share = file.stat().st_size / sum(4 * value.numel() for value in model.state_dict().values())
    worst = max(node.alone for node in parity.nodes)
    layers = f"{report.quantized} of {report.layers}"
    return [runtime.title, f"{seconds:.1f}", f"{share:.2f}", layers, str(len(parity.nodes)), str(worst)]


def measure() -> Iterator[list[str]]:
    """Yields the rows."""
    smooth = torch.randn(8, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(smooth, (224, 224), mode="bicubic")
    for name in MODELS:
        model = base(name, images)
        for runtime in RUNTIMES.values():
            with tempfile.TemporaryDirectory() as folder:
                yield [name, *exported(model, runtime, images, Path(folder) / "model.onnx")]


def main() -> None:
    """Measures, prints, and writes if asked to."""
    write = asked_to_write("benchmarks.exports")
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    publish("exports", f"{table(HEADINGS, list(measure()))}\n\n{where(THREADS)}.", write)


if __name__ == "__main__":
    main()
