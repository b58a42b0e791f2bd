"""Einsum of an activation and a stored weight, written as the matrix product that it is.

Of Einsum no runtime has an integer kernel.

    Einsum("bthk,hkd->btd", x, w)    MatMul(Reshape(x, (b, t, hk)), Reshape(w, (hk, d)))

The letters of the weight are those that are summed over, and those of its output channels; one that both operands have
and the result too, of a batch of weights, is neither, and stays as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, nodes, producer, take_place


class _Product(NamedTuple):
    """What an equation says.

    Attributes:
        activation: the place of the activation among the inputs.
        kept: its letters that are in the result.
        summed: the letters that are summed over.
        channels: the letters of the weight alone.
        given: the letters of the activation, as they stand.
        weight: the letters of the weight, as they stand.
        result: the letters of the result, as they stand.
    """

    activation: int
    kept: str
    summed: str
    channels: str
    given: str
    weight: str
    result: str


def einsums_to_products(graph: ir.Graph) -> int:
    """Writes each Einsum of an activation and a stored weight as a MatMul, in place; returns how many.

    What moves the weight is left for `store_as_read`.
    """
    return sum(_rewritten(graph, node) for node in nodes(graph, "Einsum"))


def _rewritten(graph: ir.Graph, node: ir.Node) -> bool:
    product = _product(node)
    if product is None:
        return False
    weight, x = node.inputs[1 - product.activation], node.inputs[product.activation]
    assert weight is not None
    assert weight.shape is not None
    sizes = dict(zip(product.weight, map(int, weight.shape.numpy()), strict=True))
    matrix = [int(np.prod([sizes[letter] for letter in letters])) for letters in (product.summed, product.channels)]
    # The integers are moved, so that the product reads DequantizeLinear itself.
    pair = producer(x, DEQUANTIZE)
    x = _moved(graph, node, x if pair is None else pair.inputs[0], product.given, product.kept + product.summed)
    # 0 keeps a size, whatever it is.
    x = _reshaped(graph, node, x, [*[0] * len(product.kept), matrix[0]], len(product.summed) != 1)
    if pair is not None:
        x = _before(graph, node, ir.Node("", DEQUANTIZE, [x, *pair.inputs[1:]], name=pair.name))
    weight = _moved(graph, node, weight, product.weight, product.summed + product.channels)
    weight = _reshaped(graph, node, weight, matrix, len(product.weight) != 2)
    y: ir.Value | None = _before(graph, node, ir.Node("", "MatMul", [x, weight], name=node.name))
    shape = [*[0] * len(product.kept), *(sizes[letter] for letter in product.channels)]
    y = _reshaped(graph, node, y, shape, len(product.channels) != 1)
    order = [(product.kept + product.channels).index(letter) for letter in product.result]
    last = ir.Node("", "Transpose", [y], attributes=[ir.AttrInt64s("perm", order)], name=f"{node.name}/Transpose")
    take_place(graph, node, last)
    return True


def _product(node: ir.Node) -> _Product | None:
    """Returns what an Einsum says, if it is the product of an activation and a stored weight."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    inputs, _, result = equation.partition("->")
    given = inputs.split(",")
    stored = [place for place, value in enumerate(node.inputs) if _is_stored(value)]
    if len(given) != 2 or len(stored) != 1 or "." in equation or any(len(set(one)) < len(one) for one in given):
        return None
    activation = 1 - stored[0]
    x, weight = set(given[activation]), set(given[stored[0]])
    if x & weight & set(result) or (x ^ weight) - set(result):
        return None
    kept = "".join(letter for letter in result if letter in x)
    summed = "".join(letter for letter in given[stored[0]] if letter in x)
    channels = "".join(letter for letter in result if letter in weight)
    if not summed or not channels:
        return None
    return _Product(activation, kept, summed, channels, given[activation], given[stored[0]], result)


def _is_stored(value: ir.Value | None) -> bool:
    node = producer(value, DEQUANTIZE)
    return node is not None and constant(node.inputs[0]) is not None


def _moved(graph: ir.Graph, at: ir.Node, value: ir.Value | None, letters: str, wanted: str) -> ir.Value | None:
    if letters == wanted:
        return value
    order = ir.AttrInt64s("perm", [letters.index(letter) for letter in wanted])
    return _before(graph, at, ir.Node("", "Transpose", [value], attributes=[order], name=f"{at.name}/Transpose"))


def _reshaped(graph: ir.Graph, at: ir.Node, value: ir.Value | None, shape: list[int], needed: bool) -> ir.Value | None:
    if not needed:
        return value
    wanted = add_constant(graph, f"{at.name}.shape", np.array(shape, np.int64))
    return _before(graph, at, ir.Node("", "Reshape", [value, wanted], name=f"{at.name}/Reshape"))


def _before(graph: ir.Graph, at: ir.Node, node: ir.Node) -> ir.Value:
    graph.insert_before(at, node)
    return node.outputs[0]
