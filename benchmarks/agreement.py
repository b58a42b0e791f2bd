"""`python -m benchmarks.agreement --data PATH [--write]`: predictions of exported models beside those of the model.

On every image of a test set. How much of the rest is rounding, the model itself tells: it is evaluated in float64 too,
and with torch's own convolutions instead of oneDNN's, where nothing but the precision or the order of sums is another.
docs/benchmarks.md gets the table. Takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

import qzoo
from benchmarks.document import publish, runtimes, where
from qzoo.models.example import runnable_example
from qzoo.report.markdown import table
from qzoo.runtimes.registry import runnable_runtime
from qzoo.runtimes.runtime import Session
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.zoo.name_lookup import find

THREADS = 2
PLACES = (("resnet20_cifar10_int8", "."), ("tf_efficientnet_lite0_int8_ort", "imagenet-mini"))
ITSELF = "the model itself, in float64"
OTHER_SUMS = "the model itself, without oneDNN"
HEADINGS = ["variant", "computed by", ">images", ">same top-1, %", ">top-1, %"]


def loaded(file: Path, runtime: str, optimized: bool) -> Session:
    return runnable_runtime(runtime).session(file, THREADS, optimized)


def plainly(model: nn.Module, x: Tensor) -> Tensor:
    """Returns the logits, computed by torch's own convolutions."""
    with torch.backends.mkldnn.flags(enabled=False):
        logits: Tensor = model(x)
        return logits


def measure(name: str, data: Path, folder: Path) -> Iterator[list[str]]:
    """Yields the rows of a variant."""
    zoo_model = find(name)
    model = qzoo.create(name, pretrained=True)
    sessions = {}
    for runtime in ("onnxruntime", "openvino"):
        ir.save(to_onnx(model, runnable_example(model), runnable_runtime(runtime)), folder / runtime)
    sessions["ONNX Runtime, without optimizations"] = loaded(folder / "onnxruntime", "onnxruntime", False)
    sessions["ONNX Runtime"] = loaded(folder / "onnxruntime", "onnxruntime", True)
    sessions["OpenVINO"] = loaded(folder / "openvino", "openvino", True)
    precise = copy.deepcopy(model).double()
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        what: lambda x, session=session: torch.from_numpy(session.run({"images": x.numpy()})["logits"])
        for what, session in sessions.items()
    }
    runs = {"the model": model, **runs, ITSELF: lambda x: precise(x.double()), OTHER_SUMS: lambda x: plainly(model, x)}
    same, right, images = Counter[str](), Counter[str](), 0
    with torch.no_grad():
        for x, y in evaluation_images(zoo_model.base, zoo_model.dataset, data):
            found = {what: run(x).argmax(1) for what, run in runs.items()}
            images += len(x)
            same.update({what: int((top == found["the model"]).sum()) for what, top in found.items()})
            right.update({what: int((top == y).sum()) for what, top in found.items()})
    for what in runs:
        yield [name, what, f"{images:,}", f"{100 * same[what] / images:.2f}", f"{100 * right[what] / images:.2f}"]


def main() -> None:
    """Measures, prints, and writes if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement")
    parser.add_argument("--data", type=Path, required=True, help="a folder with cifar10/ and imagenet-mini/")
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    rows = []
    for name, part in PLACES:
        with tempfile.TemporaryDirectory() as folder:
            rows += list(measure(name, options.data / part, Path(folder)))
    publish("agreement", f"{table(HEADINGS, rows)}\n\n{where(THREADS)}, {runtimes()}.", options.write)


if __name__ == "__main__":
    main()
