"""Weights of other widths than 8 bits: 4 and fewer stored two to a byte; 7, where products of 8 would overflow.

ONNX has INT4 and UINT4 since opset 21.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, nodes, remove_unread
from qzoo.runtimes.runtime import require


def store_in_four_bits(graph: ir.Graph) -> int:
    """Stores each weight whose values fit 4 bits in 4, in place; returns how many.

    No value changes. The file is half as large; but integer kernels of CPU runtimes take 8 bits alone, so there such a
    layer is computed in float.
    """
    packed = [node for node in nodes(graph, DEQUANTIZE) if _packed(graph, node)]
    remove_unread(graph)
    return len(packed)


def _packed(graph: ir.Graph, node: ir.Node) -> bool:
    values = constant(node.inputs[0])
    dtype = None if values is None else _four_bits(values)
    if values is None or dtype is None or node.inputs[0] is None or len(node.inputs) > 2:
        return False
    node.replace_input_with(0, add_constant(graph, f"{node.inputs[0].name}.int4", values.astype(dtype)))
    return True


def _four_bits(values: np.ndarray[Any, Any]) -> Any:
    ml_dtypes = require("ml_dtypes")
    for stored, narrow in ((np.int8, ml_dtypes.int4), (np.uint8, ml_dtypes.uint4)):
        ends = ml_dtypes.iinfo(narrow)
        if values.dtype == stored and values.size > 1 and values.min() >= ends.min and values.max() <= ends.max:
            return narrow
    return None


def write_seven_bits(source: Path, target: Path) -> None:
    """Writes a graph whose stored int8 weights are half as large, of scales twice as large.

    Its logits are near those of the graph itself, and no sum of two products overflows 16 bits: `255 * (64 + 64)`.

    Args:
        source: the graph.
        target: the file that is written.
    """
    model = ir.load(source)
    for node in nodes(model.graph, DEQUANTIZE):
        values, scale = constant(node.inputs[0]), constant(node.inputs[1])
        if values is None or scale is None or values.dtype != np.int8 or values.ndim < 2:
            continue
        halves = np.rint(values.astype(np.float32) / 2).astype(np.int8)
        node.replace_input_with(0, add_constant(model.graph, "half.values", halves))
        node.replace_input_with(1, add_constant(model.graph, "twice.scale", scale * scale.dtype.type(2)))
    ir.save(model, target)
