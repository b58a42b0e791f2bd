"""How close a graph comes to the fake-quantized model it was made from: logits, and the integers of each quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.outputs import primary_tensor
from qzoo.quant.ranges import quantizers
from qzoo.results.export import Parity
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.passes.stored_weight import write_seven_bits
from qzoo.runtimes.probed_graph import LOGIT_STEPS, OUTPUT, Differences, Logits, ProbedSession, path_of, write_probed
from qzoo.runtimes.rules.processors import may_saturate
from qzoo.runtimes.runtime import Array, Runtime, require

IMAGES_A_TIME = 4
"""All activations of a batch are held at once."""
LOGITS = 0.05
"""Share of the largest logit that the logits of a runtime may be off by with activations of 8 bits; of fewer, as many
times more as a step is larger. Measured are 1 to 2 % where nothing is wrong, 3 to 40 % where products overflow."""
PLAIN = 3
"""Times the difference without optimizations that they may be off by: how far roundings alone cascade."""


def measure_parity(
    model: nn.Module, file: Path, runtime: Runtime, images: Iterable[Tensor], *, dynamic: bool = True
) -> Parity:
    """Returns how close a file comes to the calibrated model that it was exported from.

    Each quantizer is compared in steps: fed with the model's own values, which shows faults; and end to end, where
    roundings flip and cascade, without and with the optimizations of ONNX Runtime, which reads every file. Of a graph
    for ONNX Runtime, it is fed rightly with its optimizations too, and where that is off, with half of each integer: if
    it is right then, sums of products overflow 16 bits, and if not, the graph is wrong. Logits are also those of the
    runtime itself, where it runs on this machine; where they are beyond the limits, those of weights of 7 bits too.

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
        comparison = _Comparison(model, file, runtime, whole, cut, paths)
        with evaluation_mode(model):
            return comparison.run(x for batch in images for x in batch.split(IMAGES_A_TIME if dynamic else 1))


class _Comparison:
    def __init__(
        self, model: nn.Module, file: Path, runtime: Runtime, whole: Path, cut: Path, paths: list[str]
    ) -> None:
        self.model, self.file, self.runtime = model, file, runtime
        self.kept: Array | None = None
        self.own_runtime = not runtime.missing()
        self.own = runtime.session(file, None, True) if self.own_runtime else onnxruntime.session(file, None, False)
        self.plain, self.alone = ProbedSession(whole, optimized=False), ProbedSession(cut, optimized=False)
        self.optimized_alone = ProbedSession(cut, optimized=True) if runtime is onnxruntime.RUNTIME else None
        self.optimized: ProbedSession | None = None
        # What its optimizer makes of another runtime's graph is good to know, but not to fail by.
        with suppress(UnsupportedError):
            self.optimized = ProbedSession(whole, optimized=True)
        self.paths = paths
        self.quantizers = quantizers(model)
        self.nodes: dict[str, Differences] = {}
        self.logits = {"plain": Logits(), "own": Logits()}
        self.largest = 0.0

    def run(self, images: Iterable[Tensor]) -> Parity:
        for x in images:
            self._compare(x)
        return self._report()

    def _compare(self, x: Tensor) -> None:
        self.kept = x.numpy() if self.kept is None else self.kept
        with torch.no_grad(), watching(self.model, self.paths) as calls:
            expected = primary_tensor(self.model(x)).float().numpy()
        seen = by_call(self.paths, calls)
        self.largest = max(self.largest, float(np.abs(expected).max()))
        feeds: dict[str, Array] = {next(iter(self.plain.inputs)): x.numpy()}
        plain = self.plain.run(feeds)
        self.logits["plain"].add(expected, plain[0])
        self.logits["own"].add(expected, self.own.run(x.numpy()))
        integers = {
            path: self._node(path, found).expected(seen[path])
            for path, found in zip(self.paths, plain[1:], strict=True)
            if self.quantizers[path_of(path)].grid.fp8 is None  # of which there are no steps to count
        }
        if integers:
            head = self.nodes.setdefault(OUTPUT, Differences(OUTPUT, self.largest / LOGIT_STEPS))
            integers[OUTPUT] = head.expected(expected)
        fed = feeds | {f"fed.{path}": integers.get(path, seen[path]) for path in self.paths}
        for path, values in integers.items():
            self.nodes[path].values += values.size
        self._count("plain", integers, plain)
        self._count("alone", integers, self.alone.run(fed))
        if self.optimized is not None:
            self._count("optimized", integers, self.optimized.run(feeds))
        if self.optimized_alone is not None:
            self._count("optimized_alone", integers, self.optimized_alone.run(fed))
            if any(node.is_off_optimized for node in self.nodes.values()):
                self._halve(fed)

    def _count(self, how: str, expected: dict[str, Array], results: list[Array]) -> None:
        for path, found in zip([OUTPUT, *self.paths], results, strict=True):
            if path in expected:
                self.nodes[path].add(how, expected[path], found)

    def _halve(self, fed: dict[str, Array]) -> None:
        """Feeds half of each unsigned integer, of which two products can't overflow: what is off then is a fault."""
        half = {name: value // 2 if name.startswith("fed.") else value for name, value in fed.items()}
        found = dict(zip([OUTPUT, *self.paths], self.alone.run(half), strict=True))
        expected = {path: node.stored(found[path]) for path, node in self.nodes.items()}
        assert self.optimized_alone is not None
        self._count("halved", expected, self.optimized_alone.run(half))

    def _node(self, path: str, stored: Array) -> Differences:
        if path not in self.nodes:
            quantizer = self.quantizers[path_of(path)]
            shifted = stored.dtype.kind == "u" and quantizer.grid.low < 0
            zero = (np.iinfo(stored.dtype).max + 1) // 2 if shifted else 0
            self.nodes[path] = Differences(path, float(quantizer.amax.detach()) / quantizer.grid.bound, zero)
        return self.nodes[path]

    def _report(self) -> Parity:
        nodes = [self.nodes[path] for path in [*self.paths, OUTPUT] if path in self.nodes]
        parity = Parity(
            images=self.logits["own"].images,
            own_runtime=self.own_runtime,
            agreement_plain=self.logits["plain"].agreement,
            agreement=self.logits["own"].agreement,
            logit_difference_plain=self.logits["plain"].worst,
            logit_difference=self.logits["own"].worst,
            largest_logit=self.largest,
            nodes=[node.report() for node in nodes if node.path != OUTPUT],
            first_diverging=next((node.path for node in nodes if node.is_wrong), None),
            first_overflowing=next((node.path for node in nodes if node.overflows), None),
            logit_limit=self._logit_limit(),
        )
        return parity.model_copy(update={"seven_bit_difference": self._with_seven_bits()}) if parity.beyond else parity

    def _logit_limit(self) -> float | None:
        """Returns what roundings may come to, see `LOGITS` and `PLAIN`; None where they are all there is."""
        if self.optimized_alone is not None and self.nodes and not any(n.is_off_optimized for n in self.nodes.values()):
            return None
        bounds = [self.quantizers[path_of(path)].grid.bound for path in self.paths if path in self.nodes]
        share = min(max([LOGITS, *(LOGITS * 127 / bound for bound in bounds)]), 1.0)
        return max(share * self.largest, PLAIN * self.logits["plain"].worst)

    def _with_seven_bits(self) -> float | None:
        """Returns how far the runtime is off with weights of 7 bits; None where that says nothing."""
        if not self.own_runtime or self.kept is None or not may_saturate(ir.load(self.file).graph, self.runtime):
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "seven.onnx"
            write_seven_bits(self.file, file)
            own, plain = self.runtime.session(file, None, True), onnxruntime.session(file, None, False)
            return float(np.abs(own.run(self.kept) - plain.run(self.kept)).max())


@contextmanager
def watching(model: nn.Module, names: list[str]) -> Iterator[dict[str, list[Array]]]:
    """While this lasts, what the quantizers give is kept, by path and call after call.

    Args:
        model: calibrated.
        names: as `write_probed` returns them.
    """
    seen: dict[str, list[Array]] = {path_of(name): [] for name in names}

    def keep(path: str) -> Any:
        # A copy: `y += x` writes the sum there.
        return lambda module, args, y: seen[path].append(y.detach().float().numpy().copy())

    found = quantizers(model)
    hooks = [found[path].register_forward_hook(keep(path)) for path in seen]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def by_call(names: list[str], seen: dict[str, list[Array]]) -> dict[str, Array]:
    """Returns what each node of a graph is to give, by name.

    Of calls with the same input a graph may have one node.

    Args:
        names: as `write_probed` returns them.
        seen: by path of the quantizer, what it gave, call after call.
    """
    found: dict[str, Array] = {}
    for path, calls in seen.items():
        own = [name for name in names if path_of(name) == path]
        found |= zip(own, calls if len(calls) == len(own) else _different(calls)[-len(own) :], strict=True)
    return found


def _different(calls: list[Array]) -> list[Array]:
    return [call for place, call in enumerate(calls) if not any(np.array_equal(call, one) for one in calls[:place])]
