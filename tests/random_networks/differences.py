"""How far a file is from the model it was made of, part by part: in ONNX Runtime, optimized or not, and in OpenVINO.

The file is cut at its quantizers, and each part fed with the model's own values. In whatever order the sums of a part
are taken, it is then off by a step at most, at a tie of roundings; what is further off is wrong, and named.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qzoo.runtimes.graph import constant, producer
from qzoo.runtimes.named_inputs import INPUT
from qzoo.runtimes.onnxruntime import load
from qzoo.runtimes.openvino import _core
from qzoo.runtimes.parity import by_call, watching
from qzoo.runtimes.passes.stored_weight import write_seven_bits
from qzoo.runtimes.probed_graph import LOGIT_STEPS, activation_quantizers

PLAIN = "onnxruntime, unoptimized"
KNOWN = {"openvino": frozenset({"ReduceMax", "ReduceMin", "Pad"})}
"""Operators after which a runtime itself is wrong. OpenVINO 2026.4 quantizes maxima otherwise, even in a graph of
nothing else; what is padded by reflection, and then convolved on integers, it gets wrong in some graphs."""
SMALLER = 0.4637
"""By what values are made smaller, so that sums of their products fit 16 bits. Not by half: of what lies on a grid
every other value would then lie between two steps, where each kernel may round it another way. No count of steps below
5,000 comes to a half this way."""
Values = dict[str, Any]
"""Arrays by the name of a quantizer's evaluation, or of logits."""


def differences(model: nn.Module, file: Path, runtime: str, x: Tensor) -> dict[str, dict[str, int]]:
    """Returns for each way of running a file which quantizers are more than a step off, and by how many steps.

    Where the runtime is off, it is given weights of 7 bits and smaller values too: if it is right then, sums of
    products overflow 16 bits on this CPU, and that is no fault. Nor is what follows one of the operators `KNOWN`.

    Args:
        model: calibrated; gives logits `(N, classes, networks)` of 1 at most, and has its networks in `networks`.
        file: what was exported of it.
        runtime: that the file is for; ONNX Runtime without optimizations reads every file.
        x: images.
    """
    cut = _Cut(file)
    with torch.no_grad(), watching(model, [*cut.nodes]) as calls:
        logits = model(x).numpy()
    values = by_call([*cut.nodes], calls)
    feeds = {INPUT: x.numpy()} | {f"fed.{name}": value for name, value in values.items()}
    names = [f"networks.{name}.logits" for name in model.networks]  # type: ignore[union-attr]
    expected = _named(names, [logits, *cut.integers(values)], cut)
    off = {way: _off(expected, _named(names, run(feeds), cut)) for way, run in _ways(cut, runtime).items()}
    if off[runtime]:
        smaller = {name: value * np.float32(SMALLER) for name, value in feeds.items()}
        ways = _ways(_with_seven_bits(file), runtime)
        seven = _off(*(_named(names, ways[way](smaller), cut) for way in (PLAIN, runtime)))
        wrong = {name for name in seven if not cut.operators(name) & KNOWN.get(runtime, frozenset())}
        off[runtime] = {name: steps for name, steps in off[runtime].items() if name in wrong}
    return off


class _Cut:
    """A graph whose quantizers each have an input of their own, and give what they would have been given as integers.

    The inputs are float, since OpenVINO makes other kernels of integer ones.
    """

    def __init__(self, file: Path) -> None:
        model, self.file = ir.load(file), file.with_name(f"cut_{file.name}")
        self.nodes = activation_quantizers(model.graph)
        for name, node in self.nodes.items():
            fed = ir.Value(name=f"fed.{name}", shape=node.inputs[0].shape, type=ir.TensorType(ir.DataType.FLOAT))  # type: ignore[union-attr]
            again = ir.Node("", node.op_type, [fed, *node.inputs[1:]], num_outputs=1, name=f"{name}/fed")
            node.outputs[0].replace_all_uses_with(again.outputs[0])
            model.graph.inputs.append(fed)
            model.graph.insert_after(node, again)
            model.graph.outputs.append(node.outputs[0])
        ir.save(model, self.file)

    def operators(self, name: str) -> set[str]:
        """Returns what is computed between the quantizers before it and a quantizer."""
        values, found = ([self.nodes[name].inputs[0]] if name in self.nodes else []), set()
        while values:
            node = producer(values.pop())
            if node is not None and not (node.name or "").endswith("/fed"):
                found.add(node.op_type)
                values += node.inputs
        return found

    def integers(self, values: Values) -> list[Any]:
        """Returns what is stored of values."""
        scales = {name: (constant(node.inputs[1]), constant(node.inputs[2])) for name, node in self.nodes.items()}
        return [np.rint(values[name] / scale) + zero for name, (scale, zero) in scales.items()]


def _with_seven_bits(file: Path) -> _Cut:
    seven = file.with_name(f"seven_{file.name}")
    write_seven_bits(file, seven)
    return _Cut(seven)


def _ways(cut: _Cut, runtime: str) -> dict[str, Callable[[Values], list[Any]]]:
    plain = load(cut.file, optimized=False, threads=1)
    return {PLAIN: lambda feeds: plain.run(None, feeds), runtime: _optimized(cut, runtime)}  # type: ignore[no-any-return]


def _optimized(cut: _Cut, runtime: str) -> Callable[[Values], list[Any]]:
    if runtime == "onnxruntime":
        session = load(cut.file, optimized=True, threads=1)
        return lambda feeds: session.run(None, feeds)  # type: ignore[no-any-return]
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = _core().compile_model(str(cut.file), "CPU", options).create_infer_request()
    return lambda feeds: [*request.infer(feeds).to_tuple()]


def _named(logits: list[str], results: list[Any], cut: _Cut) -> Values:
    """Returns what a cut graph gives, by name: of each quantizer the integers, of each network the logits in steps."""
    by_network = np.moveaxis(results[0], -1, 0) * LOGIT_STEPS
    integers = [one.astype(np.float32) for one in results[1:]]
    return dict(zip(cut.nodes, integers, strict=True)) | dict(zip(logits, by_network, strict=True))


def _off(expected: Values, found: Values) -> dict[str, int]:
    worst = {name: float(np.abs(expected[name] - found[name]).max(initial=0)) for name in expected}
    return {name: int(min(steps, 2**31)) for name, steps in worst.items() if not steps < 1.5}
