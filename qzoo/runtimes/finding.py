"""What a rule says of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: its name.
        level: `error`, the graph computes something else than meant, or its runtime can't use it as meant; `note`, what
            stays in float, and what depends on the processor.
        node: name of the node.
        message: what is there, and what should be.
    """

    rule: str
    level: Literal["error", "note"]
    node: str
    message: str

    def __str__(self) -> str:
        """One line: rule, node, message."""
        return f"{self.rule}: {self.node}: {self.message}"


def error(rule: str, node: ir.Node, message: str) -> Finding:
    """Returns a finding of level `error`."""
    return Finding(rule, "error", node.name or node.op_type, message)


def note(rule: str, node: ir.Node, message: str) -> Finding:
    """Returns a finding of level `note`."""
    return Finding(rule, "note", node.name or node.op_type, message)
