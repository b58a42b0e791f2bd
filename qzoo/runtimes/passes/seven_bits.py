"""A graph with weights of 7 bits, to see whether it is overflowing products that a runtime is off by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from qzoo.runtimes.graph import DEQUANTIZE, add_constant, constant, nodes


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
