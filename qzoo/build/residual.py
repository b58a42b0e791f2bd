"""Residual additions in what a model evaluates, and which of their operands is the skip branch.

The two operands of a residual addition part somewhere and meet again. The skip branch, identity or downsample, is the
one with the shorter way from where they part.
"""

from __future__ import annotations

from collections import deque

from qzoo.build.tracing import Evaluation, Trace
from qzoo.quant.operators import MOVES

REARRANGING = MOVES | {"mul", "neg", "cat", "stack"}
"""What rotary position embedding consists of before it adds: values moved, turned round and scaled."""


def skip_operand(trace: Trace, evaluation: Evaluation) -> str | None:
    """Returns `left` or `right`, the skip branch of a residual addition; None for anything else.

    A residual addition adds two activations of one shape. Where both ways are equally long, as in the parallel
    branches of RepVGG, the operand that was computed first counts as the skip: it waits for the other. Where neither
    way computes anything, as in rotary position embedding, there is no branch that something could be skipped by.

    Args:
        trace: of the whole model.
        evaluation: one of it.
    """
    if evaluation.op != "add" or evaluation.site is None or set(evaluation.operands) != {"left", "right"}:
        return None
    if evaluation.shapes[0] != evaluation.shapes[1]:
        return None
    left, right = evaluation.operands["left"], evaluation.operands["right"]
    to_left, to_right = _lengths_back(trace, left), _lengths_back(trace, right)
    common = to_left.keys() & to_right.keys()
    parting = min(common, key=lambda index: (to_left[index] + to_right[index], -index))
    if _between(trace, parting, left) | _between(trace, parting, right) <= REARRANGING:
        return None
    return "left" if (to_left[parting], left) <= (to_right[parting], right) else "right"


def _between(trace: Trace, parting: int, operand: int) -> set[str]:
    """Returns the operators that were evaluated after the parting and that an operand depends on."""
    return {trace.evaluations[index].op for index in _lengths_back(trace, operand, parting) if index > parting}


def _lengths_back(trace: Trace, start: int, first: int = 0) -> dict[int, int]:
    """Returns the length of the shortest way back to every evaluation, from the first on, that one depends on."""
    lengths, queue = {start: 0}, deque([start])
    while queue:
        index = queue.popleft()
        for source in trace.evaluations[index].inputs:
            if source not in lengths and source >= first:
                lengths[source] = lengths[index] + 1
                queue.append(source)
    return lengths
