"""Graphs of one model in which some of its quantizers are off, made of one trace.

Tracing takes longer than all that follows: a minute for a large model. What is left out is left out of the traced
graph, before anything is merged or folded, so that a graph is the one that is exported with those quantizers off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import onnx_ir as ir
from torch import nn

from qzoo.errors import UnknownNameError, did_you_mean
from qzoo.quant.ranges import quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.runtimes.graph import add_constant, bypass, remove_unread
from qzoo.runtimes.runtime import Runtime
from qzoo.runtimes.to_onnx import finished, traced_for
from qzoo.runtimes.traced import TracedModel


class Exporter:
    """Exports a model again and again, each time without other quantizers.

    Args:
        model: calibrated, on the CPU; not changed, and not to be changed as long as this is used.
        example: as for `to_onnx`.
        runtime: as for `to_onnx`.

    Raises:
        NotCalibratedError: a quantizer has no range; it is named.
        UnsupportedError: as by `to_onnx`.

    Example:
        >>> from qzoo.models.example import runnable_example
        >>> from qzoo.runtimes.registry import runtime_named
        >>> model = qzoo.create("resnet8_digits_int8", pretrained=True)
        >>> exporter = Exporter(model, runnable_example(model), runtime_named("onnxruntime"))
        >>> graph = exporter.without(["conv1.input_quantizer", "conv1.weight_quantizer"]).graph
        >>> [node.name for node in graph if "Quantize" in node.op_type][0]
        'layer1.conv1.input_quantizer/QuantizeLinear'
    """

    def __init__(self, model: nn.Module, example: Any, runtime: Runtime) -> None:
        self.traced, self.runtime = traced_for(model, example, runtime), runtime
        self.paths = [path for path, one in quantizers(model).items() if one.state == "quantizing"]
        self.weights = {path: one.values for path, one in quantized_weights(model).items()}

    def without(self, paths: Collection[str]) -> ir.Model:
        """Returns the graph for the runtime in which some quantizers are off; with none, what `to_onnx` returns.

        Args:
            paths: those of the quantizers, as `quantizers(model)` names them.

        Raises:
            UnknownNameError: no quantizer that is on has such a path; with the nearest.
        """
        for path in paths:
            if path not in self.paths:
                raise UnknownNameError(f"There is no quantizer '{path}' that is on. {did_you_mean(path, self.paths)}")
        model: ir.Model = self.traced.model.clone()
        for last, path in _ends(model.graph, self.traced, paths):
            weight = self.weights.get(path)
            if weight is None:
                bypass(model.graph, last, _read_by(last, path, self.traced))
            else:
                name = f"{path.removesuffix('_quantizer')}.left_in_float"
                bypass(model.graph, last, add_constant(model.graph, name, weight.detach().float().numpy()))
        remove_unread(model.graph)
        return finished(self.traced.optimized(model), self.runtime, self.traced.outputs)


def _ends(graph: ir.Graph, traced: TracedModel, paths: Collection[str]) -> list[tuple[ir.Value, str]]:
    """Returns what some quantizers give, each time that they are called, with their paths."""
    return [(value, path) for node in graph if (path := traced.path_of(node)) in paths for value in _left(node, traced)]


def _left(node: ir.Node, traced: TracedModel) -> Iterator[ir.Value]:
    """Yields the values of a node that are read outside of its module."""
    own = traced.path_of(node)
    for value in node.outputs:
        if value.is_graph_output() or any(traced.path_of(use.node) != own for use in value.uses()):
            yield value


def _read_by(value: ir.Value, path: str, traced: TracedModel) -> ir.Value:
    """Returns what a quantizer of an activation made a value of: all its nodes, be it a clip, take that first."""
    node = value.producer()
    while node is not None and traced.path_of(node) == path:
        first = node.inputs[0]
        assert first is not None, "A quantizer's nodes have an input."
        value, node = first, first.producer()
    return value
