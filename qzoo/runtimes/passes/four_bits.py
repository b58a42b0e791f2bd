"""Weights of 4 bits and fewer, stored two to a byte: ONNX has INT4 and UINT4 since opset 21."""

from __future__ import annotations

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
