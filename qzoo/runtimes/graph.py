"""Reading and changing an ONNX graph, in the few ways that passes and rules need."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes which module a node comes from."""
NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"
"""What it notes of a node that no module's forward computes, such as the size of the batch."""


def constant(value: ir.Value | None) -> Any:
    """Returns the array that a value always is, or None."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Returns the node that makes a value, if it is of one of the types."""
    node = None if value is None else value.producer()
    return node if node is not None and (not op_types or node.op_type in op_types) else None


def consumers(value: ir.Value) -> list[ir.Node]:
    """Returns the nodes that read a value, once for each time they do."""
    return [use.node for use in value.uses()]


def nodes(graph: ir.Graph, *op_types: str) -> Iterator[ir.Node]:
    """Yields the nodes of some types, in order; the graph may change in between."""
    yield from [node for node in graph if node.op_type in op_types]


def input_of(node: ir.Node, place: int) -> ir.Value | None:
    """Returns an input of a node, or None where it has none there."""
    return node.inputs[place] if place < len(node.inputs) else None


def add_constant(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """Returns a new constant of the graph; the name is made its own."""
    taken, number, own = graph.initializers, 1, name
    while own in taken:
        number, own = number + 1, f"{name}_{number}"
    value = ir.Value(name=own, const_value=ir.tensor(array, name=own))
    value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype  # type: ignore[union-attr]
    graph.register_initializer(value)
    return value


def replace_node(graph: ir.Graph, old: ir.Node, op_type: str, inputs: Sequence[ir.Value | None]) -> ir.Node:
    """Puts another node in place of one with one output, with its name and attributes; returns it."""
    new = ir.Node(old.domain, op_type, inputs, attributes=list(old.attributes.values()), name=old.name, num_outputs=1)
    take_place(graph, old, new)
    return new


def take_place(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Inserts a node before another, gives it the other's readers, and removes the other."""
    graph.insert_before(old, new)
    before, after = old.outputs[0], new.outputs[0]
    after.shape, after.type, name = before.shape, before.type, before.name
    bypass(graph, before, after)
    graph.remove(old, safe=True)
    after.name = name


def bypass(graph: ir.Graph, value: ir.Value, instead: ir.Value) -> None:
    """Lets all readers of a value read another one, the graph's outputs included."""
    value.replace_all_uses_with(instead, replace_graph_outputs=True)


def scope(node: ir.Node) -> str:
    """Returns the path of the innermost module that a node comes from, as torch's exporter noted it."""
    # The note is a list of names as Python prints it: of literals, and only of a graph that was exported just now.
    names = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    return names[-2] if len(names) > 1 and names[-2] != NO_MODULE else ""


def name_by_module(graph: ir.Graph, paths: Mapping[str, str] | None = None) -> None:
    """Names nodes and quantizers after the module that they come from, and drops all other notes of the exporter.

    Those notes hold paths of the machine that exported.

    Args:
        graph: as it was exported.
        paths: for each path at which a module stands, the one that it is called by.
    """
    taken: dict[str, int] = {}
    for node in graph:
        name = "/".join(filter(None, [(paths or {}).get(scope(node), scope(node)), node.op_type]))
        taken[name] = taken.get(name, 0) + 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def remove_unread(graph: ir.Graph) -> None:
    """Removes nodes and constants that nothing reads."""
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def make_names_unique(graph: ir.Graph) -> None:
    """Gives nodes and values whose name another has before them a number, inputs and outputs of the graph kept."""
    kept = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    made = [value for node in graph for value in node.outputs if not value.is_graph_output()]
    _number(made, {value.name for value in kept})
    _number(list(graph), set())


def _number(items: Sequence[ir.Node | ir.Value], taken: set[str | None]) -> None:
    for item in items:
        name, number = item.name or "value", 1
        while item.name in taken or not item.name:
            number += 1
            item.name = f"{name}_{number}"
        taken.add(item.name)
