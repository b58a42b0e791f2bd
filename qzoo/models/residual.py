"""Residual additions in what a model evaluates, and which of their operands is the skip branch.

The two operands of a residual addition part somewhere and meet again. The skip branch, identity or downsample, is the
one on whose way from where they part less is computed. What changes no value is no step on that way.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from qzoo.models.tracing import OperatorCall, Trace
from qzoo.quant.operators.spellings import MOVES

REARRANGING = MOVES | {"mul", "neg", "cat", "stack"}
"""What rotary position embedding consists of before it adds: values moved, turned round and scaled."""


def skip_operand(trace: Trace, evaluation: OperatorCall) -> str | None:
    """Returns `left` or `right`, the skip branch of a residual addition; None for anything else.

    A residual addition adds two activations of one shape. Where as much is computed on both ways, the one without
    weights is the skip; where both have some, as the parallel branches of RepVGG, the operand that was computed first:
    it waits for the other. Where neither way computes anything, as in rotary position embedding, there is no branch
    that something could be skipped by.

    Args:
        trace: the trace of the whole model.
        evaluation: one of it.
    """
    if evaluation.op != "add" or evaluation.site is None or set(evaluation.operands) != {"left", "right"}:
        return None
    if evaluation.shapes[0] != evaluation.shapes[1]:
        return None
    left, right = evaluation.operands["left"], evaluation.operands["right"]
    to_left, to_right = _weights_back(trace, left), _weights_back(trace, right)
    common = to_left.keys() & to_right.keys()
    parting = min(common, key=lambda index: (to_left[index].total + to_right[index].total, -index))
    if _between(trace, parting, left) | _between(trace, parting, right) <= REARRANGING:
        return None
    return "left" if (to_left[parting], left) <= (to_right[parting], right) else "right"


class _Way(NamedTuple):
    """What is computed on a way; of equal totals that with fewer layers is less."""

    total: int
    layers: int


def _between(trace: Trace, parting: int, operand: int) -> set[str]:
    """Returns the operators that were evaluated after the parting and that an operand depends on."""
    return {trace.evaluations[index].op for index in _weights_back(trace, operand, parting) if index > parting}


def _weights_back(trace: Trace, start: int, first: int = 0) -> dict[int, _Way]:
    """Returns what the least of all ways back to each evaluation, from the first on, computes (Dijkstra 1959)."""
    found: dict[int, _Way] = {}
    queue = [(_Way(0, 0), start)]
    while queue:
        way, index = heappop(queue)
        if index in found:
            continue
        found[index] = way
        evaluation = trace.evaluations[index]
        beyond = _Way(way.total + evaluation.weight, way.layers + (evaluation.weight > 1))
        for source in evaluation.inputs:
            if source not in found and source >= first:
                heappush(queue, (beyond, source))
    return found
