"""How close a graph comes to the fake-quantized model it was made from: logits, and the integers of each quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.outputs import primary_tensor
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.packages import require
from qzoo.runtimes.probed import ProbedSession, write_probed
from qzoo.runtimes.runtime import Array, Runtime
from qzoo.schema.export import NodeParity, Parity

IMAGES_A_TIME = 4
"""All activations of a batch are held at once."""


class _Node:
    """Differences of one quantizer, image after image."""

    def __init__(self, path: str, quantizer: TensorQuantizer, zero_point: int) -> None:
        self.path, self.zero_point = path, zero_point
        self.step = float(quantizer.amax.detach()) / quantizer.grid.bound
        self.worst: dict[str, int] = {}
        self.differ: dict[str, int] = {}
        self.values = 0

    def expected(self, y: Array) -> Array:
        """Returns the integers that the fake-quantized model's values stand for, as the graph stores them."""
        return np.rint(y / self.step if self.step else y * 0) + self.zero_point

    def add(self, how: str, expected: Array, found: Array) -> None:
        difference = np.abs(expected - found.astype(np.float32))
        self.worst[how] = max(self.worst.get(how, 0), int(difference.max(initial=0)))
        self.differ[how] = self.differ.get(how, 0) + int((difference > 0).sum())

    def report(self) -> NodeParity:
        seen = max(self.values, 1)
        return NodeParity(
            node=self.path,
            alone=self.worst["alone"],
            plain=self.worst["plain"],
            plain_share=self.differ["plain"] / seen,
            optimized=self.worst.get("optimized"),
            optimized_share=self.differ["optimized"] / seen if "optimized" in self.differ else None,
        )


class _Logits:
    """Differences of the logits."""

    def __init__(self) -> None:
        self.same, self.images = 0.0, 0
        self.worst = 0.0

    def add(self, expected: Array, found: Array) -> None:
        # Of images whose output is a map of classes, the share of places counts.
        same = (expected.argmax(1) == found.argmax(1)) if expected.ndim > 1 else expected == found
        self.same += float(same.reshape(len(same), -1).mean(1).sum())
        self.images += len(expected)
        self.worst = max(self.worst, float(np.abs(expected - found).max(initial=0)))

    @property
    def agreement(self) -> float:
        return 100 * self.same / max(self.images, 1)


def measure_parity(
    model: nn.Module, file: Path, runtime: Runtime, images: Iterable[Tensor], *, dynamic: bool = True
) -> Parity:
    """Returns how close a file comes to the calibrated model that it was exported from.

    Each quantizer is compared three times, in steps: fed with the model's own values, which shows faults; and end to
    end, where roundings flip and cascade, without and with the optimizations of ONNX Runtime, which reads every file.
    Logits are also those of the runtime itself, where it runs on this machine.

    Args:
        model: calibrated, on the CPU; not changed.
        file: what was exported of it.
        runtime: that the file is for.
        images: batches `(N, C, H, W)`, float32.
        dynamic: the file takes batches of any size; if not, of one image.
    """
    require("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.onnx", Path(folder) / "cut.onnx"
        paths = write_probed(file, whole)
        write_probed(file, cut, cut=True)
        comparison = _Comparison(model.eval(), file, runtime, whole, cut, paths)
        return comparison.run(x for batch in images for x in batch.split(IMAGES_A_TIME if dynamic else 1))


class _Comparison:
    def __init__(
        self, model: nn.Module, file: Path, runtime: Runtime, whole: Path, cut: Path, paths: list[str]
    ) -> None:
        self.model = model
        self.own_runtime = not runtime.missing()
        self.own = runtime.session(file, None, True) if self.own_runtime else onnxruntime.session(file, None, False)
        self.plain, self.alone = ProbedSession(whole, optimized=False), ProbedSession(cut, optimized=False)
        self.optimized: ProbedSession | None = None
        # What its optimizer makes of another runtime's graph is good to know, but not to fail by.
        with suppress(UnsupportedError):
            self.optimized = ProbedSession(whole, optimized=True)
        self.paths = paths
        self.quantizers = quantizers(model)
        self.nodes: dict[str, _Node] = {}
        self.logits = {"plain": _Logits(), "own": _Logits()}
        self.largest = 0.0

    def run(self, images: Iterable[Tensor]) -> Parity:
        for x in images:
            self._compare(x)
        return self._report()

    def _compare(self, x: Tensor) -> None:
        seen: dict[str, Array] = {}
        with torch.no_grad(), _watching(self.model, self.paths, seen):
            expected = primary_tensor(self.model(x)).float().numpy()
        self.largest = max(self.largest, float(np.abs(expected).max()))
        feeds: dict[str, Array] = {next(iter(self.plain.inputs)): x.numpy()}
        plain = self.plain.run(feeds)
        self.logits["plain"].add(expected, plain[0])
        self.logits["own"].add(expected, self.own.run(x.numpy()))
        fed = feeds | {f"fed.{path}": seen[path] for path in self.paths if path in seen}
        results = {"plain": plain, "alone": self.alone.run(fed)}
        if self.optimized is not None:
            results["optimized"] = self.optimized.run(feeds)
        for place, path in enumerate(self.paths, start=1):
            if self.quantizers[path].grid.fp8 is not None:
                continue  # there are no steps to count
            node = self._node(path, plain[place])
            integers = node.expected(seen[path])
            node.values += integers.size
            for how, found in results.items():
                node.add(how, integers, found[place])

    def _node(self, path: str, stored: Array) -> _Node:
        if path not in self.nodes:
            quantizer = self.quantizers[path]
            shifted = stored.dtype.kind == "u" and quantizer.grid.low < 0
            zero = (np.iinfo(stored.dtype).max + 1) // 2 if shifted else 0
            self.nodes[path] = _Node(path, quantizer, zero)
        return self.nodes[path]

    def _report(self) -> Parity:
        nodes = [self.nodes[path].report() for path in self.paths if path in self.nodes]
        return Parity(
            images=self.logits["own"].images,
            own_runtime=self.own_runtime,
            agreement_plain=self.logits["plain"].agreement,
            agreement=self.logits["own"].agreement,
            logit_difference_plain=self.logits["plain"].worst,
            logit_difference=self.logits["own"].worst,
            largest_logit=self.largest,
            nodes=nodes,
            first_diverging=next((node.node for node in nodes if node.alone > 1), None),
        )


@contextmanager
def _watching(model: nn.Module, paths: list[str], seen: dict[str, Array]) -> Iterator[None]:
    """While this lasts, what the quantizers give is kept."""

    def keep(path: str) -> Any:
        # A copy: `y += x` writes the sum there.
        return lambda module, args, y: seen.__setitem__(path, y.detach().float().numpy().copy())

    found = quantizers(model)
    hooks = [found[path].register_forward_hook(keep(path)) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
