"""A graph that also gives the integers of its quantizers, and one that is cut at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from qzoo.quant.outputs import primary
from qzoo.runtimes.graph import QUANTIZE, constant, consumers, input_of, nodes
from qzoo.runtimes.onnxruntime import load
from qzoo.runtimes.runtime import Array

TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16, "tensor(int16)": np.int16,
}  # fmt: skip


def activation_quantizers(graph: ir.Graph) -> dict[str, ir.Node]:
    """Returns the QuantizeLinear nodes of activations by the path of their quantizer, in order."""
    found = [node for node in nodes(graph, QUANTIZE) if constant(node.inputs[0]) is None]
    return {path_of(node): node for node in found}


def path_of(node: ir.Node) -> str:
    """Returns the path of the quantizer that a node is of."""
    return (node.name or "").rpartition("/")[0]  # names of modules may hold a slash


def write_probed(source: Path, target: Path, *, cut: bool = False) -> list[str]:
    """Writes a graph that gives, besides the logits, the integers of each activation's quantizer; returns their paths.

    Args:
        source: the graph.
        target: the file that is written.
        cut: take the integers of the activations as inputs too, so that each part between quantizers can be fed alone,
            and is optimized as it is in the whole; of FP8, for which numpy has no type, what they stand for.
    """
    model = ir.load(source)
    graph, paths = model.graph, []
    graph.outputs[:] = [graph.outputs[primary([value.name or "" for value in graph.outputs])]]
    for path, node in activation_quantizers(graph).items():
        paths.append(path)
        if cut:
            _feed(graph, path, node)
        graph.outputs.append(node.outputs[0])
    ir.save(model, target)
    return paths


def _feed(graph: ir.Graph, path: str, node: ir.Node) -> None:
    zero, fed = constant(input_of(node, 2)), ir.Value(name=f"fed.{path}", shape=node.outputs[0].shape)
    graph.inputs.append(fed)
    if zero is None or zero.dtype.kind in "iu":
        fed.type = ir.TensorType(ir.DataType.UINT8 if zero is None else ir.DataType.from_numpy(zero.dtype))
        node.outputs[0].replace_all_uses_with(fed)
        return
    for pair in consumers(node.outputs[0]):
        fed.shape, fed.type = pair.outputs[0].shape, pair.outputs[0].type
        pair.outputs[0].replace_all_uses_with(fed)
        graph.remove(pair, safe=True)


class ProbedSession:
    """A probed graph in ONNX Runtime.

    Args:
        path: what `write_probed` wrote.
        optimized: with the runtime's optimizations, or without.
    """

    def __init__(self, path: Path, *, optimized: bool) -> None:
        self.session = load(path, optimized=optimized)
        self.inputs = {one.name: TYPES[one.type] for one in self.session.get_inputs()}

    def run(self, feeds: dict[str, Array]) -> list[Array]:
        """Returns the logits, then the integers of each quantizer, in order."""
        found: list[Array] = self.session.run(None, {name: feeds[name].astype(to) for name, to in self.inputs.items()})
        return found
