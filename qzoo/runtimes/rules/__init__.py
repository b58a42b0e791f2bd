"""Rules of quantized graphs, by what they look at: layers, pairs of operators, tensors, processors."""

from __future__ import annotations

import onnx_ir as ir

from qzoo.results.export import Finding


def error(rule: str, node: ir.Node, message: str) -> Finding:
    """Returns a finding of level `error`."""
    return Finding(rule=rule, level="error", node=node.name or node.op_type, message=message)


def note(rule: str, node: ir.Node, message: str) -> Finding:
    """Returns a finding of level `note`."""
    return Finding(rule=rule, level="note", node=node.name or node.op_type, message=message)
