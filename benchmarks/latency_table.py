"""`python -m benchmarks.latency_table [--runtime NAME] [--write]`: predicted latencies of random choices, and measured.

A choice leaves some groups of quantizers in float. Its graph is exported from the model with those quantizers off, as
anybody would, and takes turns with that of the quantized model. docs/search.md gets the table. Takes 10 minutes.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

import qzoo
from benchmarks.document import publish, runtimes, where
from qzoo.models.example import runnable_example
from qzoo.quant.ranges import quantizers
from qzoo.quant.same_tensor import quantizers_by_tensor
from qzoo.report.markdown import table
from qzoo.runtimes.named_inputs import named_inputs
from qzoo.runtimes.registry import runnable_runtime
from qzoo.runtimes.runtime import Session
from qzoo.runtimes.timing import paired
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.tasks.latency_table import latency_table
from qzoo.tasks.measuring.quantizer_groups import quantizer_groups

CHOICES, PAIRS = 8, 31
HEADINGS = [
    "model",
    ">groups",
    ">table, s",
    ">float ms",
    ">int8 ms",
    ">in float",
    ">predicted ms",
    ">measured ms",
    ">off",
    ">off, without neighbours",
]


def digits() -> nn.Module:
    """Returns `resnet8_digits` with the scheme for ONNX Runtime and OpenVINO."""
    base, images = qzoo.create("resnet8_digits", pretrained=True), torch.randn(8, 1, 8, 8)
    return qzoo.calibrate(qzoo.quantize(base, "int8_ort", residual="both", example=images[:1]), [images])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet8_digits": digits,
    "tf_efficientnet_lite0": lambda: qzoo.create("tf_efficientnet_lite0_int8_ort", pretrained=True),
}


def layer_groups(model: nn.Module, example: torch.Tensor) -> dict[str, list[str]]:
    """Returns the quantizers by layer; layers whose inputs are one tensor, and operands of an addition, together."""
    path_of = {quantizer: path for path, quantizer in quantizers(model).items()}
    together = [[path_of[one] for one in group.quantizers] for group in quantizer_groups(model)]
    together += quantizers_by_tensor(model, example)
    together += [
        [path, main] for path in path_of.values()
        if (main := path.replace("residual_quantizer", "residual_main_quantizer")) != path and main in path_of.values()
    ]  # fmt: skip
    group_of = {path: {path} for path in path_of.values()}
    for first, *others in together:
        for other in others:
            group_of[first] |= group_of[other]
            group_of |= dict.fromkeys(group_of[first], group_of[first])
    groups = {id(group): [path for path in path_of.values() if path in group] for group in group_of.values()}
    return {paths[0].rpartition(".")[0]: paths for paths in groups.values()}


def choices(names: list[str]) -> Iterator[list[str]]:
    """Yields what is left in float: of one group to three quarters of them."""
    chance = random.Random(0)
    for place in range(CHOICES):
        yield chance.sample(names, max(1, len(names) * (place % 4 + (place > 3)) // 5))


@dataclass
class Exported:
    """A model that is exported and loaded as anybody would, with the quantizers of some groups off.

    Attributes:
        model: calibrated.
        runtime: by name.
        threads: of the runtime.
    """

    model: nn.Module
    runtime: str
    threads: int

    def session(self, off: list[str]) -> Session:
        """Returns the model in the runtime, with some quantizers off."""
        example, target = runnable_example(self.model), runnable_runtime(self.runtime)
        for path in off:
            quantizers(self.model)[path].state = "off"
        with tempfile.TemporaryDirectory() as folder:
            ir.save(to_onnx(self.model, example, target), Path(folder) / "model.onnx")
            session = target.session(Path(folder) / "model.onnx", self.threads, True)
        for path in off:
            quantizers(self.model)[path].state = "quantizing"
        return session


def rows(name: str, runtime: str, threads: int) -> Iterator[list[str]]:
    """Yields the rows of a model."""
    model = MODELS[name]()
    groups = layer_groups(model, runnable_example(model))
    found = latency_table(model, runtime, groups, threads=threads)
    alone = found.model_copy(update={"neighbours": []})
    exported, example = Exported(model, runtime, threads), runnable_example(model)
    feeds, quantized = {name: one.numpy() for name, one in named_inputs(model, example).items()}, exported.session([])
    for in_float in choices([*groups]):
        chosen = exported.session([path for name in in_float for path in groups[name]])
        true = found.quantized_ms[1] * statistics.median(paired(quantized, chosen, feeds, PAIRS).ratios)
        predicted = found.of_choice(in_float)
        off = [f"{100 * (ms / true - 1):+.1f} %" for ms in (predicted, alone.of_choice(in_float))]
        of_table = [f"{found.seconds:.0f}", *(f"{ms[1]:.3f}" for ms in (found.float_ms, found.quantized_ms))]
        yield [name, str(len(groups)), *of_table, str(len(in_float)), f"{predicted:.3f}", f"{true:.3f}", *off]


def main() -> None:
    """Measures, prints, and writes if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency_table")
    parser.add_argument("--write", action="store_true", help="put the result into docs/search.md")
    parser.add_argument("--runtime", default="onnxruntime", help="onnxruntime or openvino")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=list(MODELS), help="one of the models")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    names = [given.only] if given.only else [*MODELS]
    cells = [row for name in names for row in rows(name, given.runtime, given.threads)]
    text = f"{table(HEADINGS, cells)}\n\n{given.runtime}, batches of 1. {where(given.threads)}, {runtimes()}."
    publish("latency", text, given.write, "search.md")


if __name__ == "__main__":
    main()
