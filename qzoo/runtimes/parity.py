"""How close a graph comes to the fake-quantized model it was made from: logits, and the integers of each quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.progress import Progress, phase, silent
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import run, split
from qzoo.quant.outputs import named_tensors
from qzoo.quant.ranges import quantizers
from qzoo.results.export import Parity
from qzoo.runtimes import onnxruntime
from qzoo.runtimes.named_inputs import named_inputs
from qzoo.runtimes.passes.stored_weight import write_seven_bits
from qzoo.runtimes.probed_graph import LOGIT_STEPS, OUTPUT, Differences, Logits, path_of, write_probed
from qzoo.runtimes.rules.processors import may_saturate
from qzoo.runtimes.runtime import Array, Feeds, Runtime, Session, require

T = TypeVar("T")
IMAGES_A_TIME = 4
"""All activations of a batch are held at once."""
LOGITS = 0.05
"""Share of the largest logit that the logits of a runtime may be off by with activations of 8 bits; of fewer, as many
times more as a step is larger. Measured are 1 to 2 % where nothing is wrong, 3 to 40 % where products overflow."""
PLAIN = 3
"""Times the difference without optimizations that they may be off by: how far roundings alone cascade."""


def measure_parity(
    model: nn.Module, file: Path, runtime: Runtime, batches: Iterable[Any], *, output: int = 0,
    images_a_time: int = IMAGES_A_TIME, progress: Progress = silent,
) -> Parity:  # fmt: skip
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
        batches: inputs of the model, on the CPU: images `(N, C, H, W)`, tuples of arguments, or dicts of them.
        output: the place of the output that is taken for the logits.
        images_a_time: the images that the file takes at once.
        progress: shown that sessions are built; the batches show themselves.
    """
    require("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.onnx", Path(folder) / "cut.onnx"
        with phase(progress, f"building {runtime.title} sessions"):
            zero_points = write_probed(file, whole, output)
            write_probed(file, cut, output, cut=True)
            comparison = _Comparison(model, file, runtime, whole, cut, zero_points, output)
        with evaluation_mode(model):
            return comparison.run(inputs for batch in batches for inputs in split(batch, images_a_time))


class _Comparison:
    def __init__(
        self, model: nn.Module, file: Path, runtime: Runtime, whole: Path, cut: Path, zero_points: dict[str, int],
        output: int,
    ) -> None:  # fmt: skip
        self.model, self.file, self.runtime, self.output = model, file, runtime, output
        self.kept: dict[str, Array] | None = None
        self.own_runtime = not runtime.missing()
        self.own = runtime.session(file, None, True) if self.own_runtime else onnxruntime.session(file, None, False)
        self.plain, self.alone = (onnxruntime.session(probed, None, False) for probed in (whole, cut))
        self.optimized_alone = onnxruntime.session(cut, None, True) if runtime is onnxruntime.RUNTIME else None
        self.optimized: Session | None = None
        # What its optimizer makes of another runtime's graph is good to know, but not to fail by.
        with suppress(UnsupportedError):
            self.optimized = onnxruntime.session(whole, None, True)
        self.paths, self.zero_points = [*zero_points], zero_points
        self.quantizers = quantizers(model)
        self.nodes: dict[str, Differences] = {}
        self.logits = {"plain": Logits(), "own": Logits()}
        self.largest = 0.0

    def run(self, batches: Iterable[Any]) -> Parity:
        for inputs in batches:
            self._compare(inputs)
        return self._report()

    def _compare(self, inputs: Any) -> None:
        feeds = {name: tensor.numpy() for name, tensor in named_inputs(self.model, inputs).items()}
        self.kept = feeds if self.kept is None else self.kept
        with torch.no_grad(), watching(self.model, self.paths) as calls:
            expected = _at(named_tensors(run(self.model, inputs)), self.output).float().numpy()
        seen = by_call(self.paths, calls)
        self.largest = max(self.largest, float(np.abs(expected).max()))
        plain = [*self.plain.run(feeds).values()]
        self.logits["plain"].add(expected, plain[0])
        self.logits["own"].add(expected, _at(self.own.run(feeds), self.output))
        integers = {
            path: self._node(path).expected(seen[path])
            for path in self.paths
            if self.quantizers[path_of(path)].grid.fp8 is None  # of which there are no steps to count
        }
        if integers:
            head = self.nodes.setdefault(OUTPUT, Differences(OUTPUT, self.largest / LOGIT_STEPS))
            integers[OUTPUT] = head.expected(expected)
        fed = feeds | {f"fed.{path}": integers.get(path, seen[path]) for path in self.paths}
        for path, values in integers.items():
            self.nodes[path].values += values.size
        self._add("plain", integers, plain)
        self._count("alone", integers, self.alone, fed)
        if self.optimized is not None:
            self._count("optimized", integers, self.optimized, feeds)
        if self.optimized_alone is not None:
            self._count("optimized_alone", integers, self.optimized_alone, fed)
            if any(node.is_off_optimized for node in self.nodes.values()):
                self._halve(fed)

    def _count(self, how: str, expected: dict[str, Array], session: Session, feeds: Feeds) -> None:
        self._add(how, expected, session.run(feeds).values())

    def _add(self, how: str, expected: dict[str, Array], results: Iterable[Array]) -> None:
        for path, found in zip([OUTPUT, *self.paths], results, strict=True):
            if path in expected:
                self.nodes[path].add(how, expected[path], found)

    def _halve(self, fed: dict[str, Array]) -> None:
        """Feeds half of each unsigned integer, of which two products can't overflow: what is off then is a fault."""
        half = {name: value // 2 if name.startswith("fed.") else value for name, value in fed.items()}
        found = dict(zip([OUTPUT, *self.paths], self.alone.run(half).values(), strict=True))
        expected = {path: node.stored(found[path]) for path, node in self.nodes.items()}
        assert self.optimized_alone is not None
        self._count("halved", expected, self.optimized_alone, half)

    def _node(self, path: str) -> Differences:
        if path not in self.nodes:
            quantizer = self.quantizers[path_of(path)]
            step = float(quantizer.amax.detach()) / quantizer.grid.bound
            self.nodes[path] = Differences(path, step, self.zero_points[path])
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
            found, right = (_at(session.run(self.kept), self.output) for session in (own, plain))
            return float(np.abs(found - right).max())


def _at(named: Mapping[str, T], place: int) -> T:
    return [*named.values()][place]


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
