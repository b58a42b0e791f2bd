"""Choices beside one: one group or two take another candidate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qzoo.tasks.searching.problem import TIGHT, Problem


def neighbours(
    problem: Problem, choice: Mapping[str, str], limits: Mapping[str, float], most_tried: int
) -> Iterator[dict[str, str]]:
    """Yields choices beside one, those of least predicted loss first: one group or two take another candidate.

    Args:
        problem: losses and costs.
        choice: complete.
        limits: by cost; every neighbour keeps to them.
        most_tried: how many at most.
    """
    moves = [(group, name) for group, name in problem.columns() if name != choice[group]]
    own = np.array([problem.groups.index(group) for group, _ in moves])
    fits, fit = np.full(len(moves), True), np.triu(own[:, None] != own[None, :], 1)
    for cost, most in limits.items():
        more, left = _changes(problem.cost[cost], choice, moves), most - problem.costs_of(choice)[cost] + TIGHT
        fits &= more <= left
        fit &= more[:, None] + more[None, :] <= left
    (singles,), (first, second) = np.nonzero(fits), np.nonzero(fit)
    gain = _changes(problem.loss, choice, moves)
    losses = np.concatenate([gain[singles], gain[first] + gain[second]])
    steps = [*((one,) for one in singles.tolist()), *zip(first.tolist(), second.tolist(), strict=True)]
    found = ({**choice, **dict(moves[move] for move in steps[place])} for place in np.argsort(losses, kind="stable"))
    yield from itertools.islice((one for one in found if problem.within(one, limits)), most_tried)


def _changes(
    table: Mapping[str, Mapping[str, float]], choice: Mapping[str, str], moves: Sequence[tuple[str, str]]
) -> np.ndarray:
    return np.array([table[group][name] - table[group][choice[group]] for group, name in moves])
