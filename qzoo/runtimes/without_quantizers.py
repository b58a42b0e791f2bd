"""Graphs of one model in which some of its quantizers are off, made of one trace.

Tracing takes longer than all that follows: a minute for a large model. What is left out is left out before quantizers
are merged and batch norms folded, so that a graph is the one that is exported with those quantizers off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import successive_clip_relu_rule, successive_clip_rule
from torch import nn

from qzoo.errors import UnknownNameError, did_you_mean
from qzoo.quant.ranges import quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.runtimes.graph import DEQUANTIZE, QUANTIZE, add_constant, bypass, nodes, remove_unread
from qzoo.runtimes.runtime import Runtime
from qzoo.runtimes.to_onnx import finished, traced_for
from qzoo.runtimes.traced import TracedModel

MARK = "quantizer"
"""An attribute that nodes of quantizers have while the exporter optimizes, which otherwise merges those that do the
same: then it could not be told which of two is left out. Also the domain of their clips meanwhile, which it otherwise
fuses with a ReLU before them: then that would be left out too."""
CLIP = "Clip"


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
        traced, self.runtime = traced_for(model, example, runtime), runtime
        self.model, self.outputs = _with_each_quantizer(traced), traced.outputs
        self.paths = [path for path, one in quantizers(model).items() if one.state == "quantizing"]
        self.clips = any(path_of(node) in self.paths for node in nodes(self.model.graph, CLIP))
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
        model: ir.Model = self.model.clone()
        for value in [value for node in model.graph if path_of(node) in paths for value in _left(node)]:
            bypass(model.graph, value, self._instead(model.graph, value))
        remove_unread(model.graph)
        if self.clips:
            rewrite(model, [successive_clip_relu_rule, successive_clip_rule])
        return finished(model, self.runtime, self.outputs)

    def sources(self) -> dict[str, set[str]]:
        """Returns for each quantizer of an activation the quantizers that come right before it in the graph.

        Those are of the layers that give what it reads: of their inputs, and of their weights.
        """
        found: dict[str, set[str]] = {}
        for node in nodes(self.model.graph, QUANTIZE):
            before = _quantized_before(_read_by(node.inputs[0], path_of(node)), self.paths)
            found.setdefault(path_of(node), set()).update(before)
        return found

    def _instead(self, graph: ir.Graph, value: ir.Value) -> ir.Value:
        path = path_of(value.producer())
        weight = self.weights.get(path)
        if weight is None:
            return _read_by(value, path)
        name = f"{path.removesuffix('_quantizer')}.left_in_float"
        return add_constant(graph, name, weight.detach().float().numpy())


def path_of(node: ir.Node | None) -> str:
    """Returns the path of the module whose forward a node computes, of a graph whose nodes are named so."""
    return "" if node is None else (node.name or "").rpartition("/")[0]


def _with_each_quantizer(traced: TracedModel) -> ir.Model:
    """Returns the graph, optimized, in which each quantizer still has nodes of its own."""
    of_quantizers = {traced.path_of(node) for node in nodes(traced.model.graph, QUANTIZE)}
    for node in nodes(traced.model.graph, QUANTIZE, DEQUANTIZE):
        node.attributes.add(ir.AttrString(MARK, traced.path_of(node)))
    for node in nodes(traced.model.graph, CLIP):
        node.domain = MARK if traced.path_of(node) in of_quantizers else node.domain
    model = traced.optimized(traced.model)
    for node in nodes(model.graph, QUANTIZE, DEQUANTIZE):
        del node.attributes[MARK]
    for node in nodes(model.graph, QUANTIZE):
        # Nothing was inferred of nodes with such an attribute.
        x, _, zero_point = node.inputs
        assert x is not None
        assert zero_point is not None
        assert zero_point.dtype is not None
        node.outputs[0].shape, node.outputs[0].type = x.shape, ir.TensorType(zero_point.dtype)
    for node in nodes(model.graph, CLIP):
        node.domain = ""
    return model


def _left(node: ir.Node) -> Iterator[ir.Value]:
    """Yields the values of a node that are read outside of its module."""
    for value in node.outputs:
        if value.is_graph_output() or any(path_of(use.node) != path_of(node) for use in value.uses()):
            yield value


def _read_by(value: ir.Value | None, path: str) -> ir.Value:
    """Returns what a quantizer of an activation made a value of: all its nodes, be it a clip, take that first."""
    assert value is not None, "A quantizer's nodes have an input."
    node = value.producer()
    return value if node is None or path_of(node) != path else _read_by(node.inputs[0], path)


def _quantized_before(value: ir.Value | None, paths: Collection[str]) -> set[str]:
    """Returns the paths of the quantizers whose values something is computed of, without another in between."""
    found: set[str] = set()
    open_ones, seen = [value], set()
    while open_ones:
        node = None if (one := open_ones.pop()) is None else one.producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (path := path_of(node)) in paths:
            found.add(path)
        else:
            open_ones += node.inputs
    return found
