"""The integer programme: a candidate for each group, of least loss under budgets, or of least cost at a loss."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from qzoo.errors import UnsupportedError
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.searching.problem import TIGHT, Problem

LOSS = "loss"


def solve(
    problem: Problem, limits: Mapping[str, float], minimize: str = LOSS, excluded: Sequence[Mapping[str, str]] = ()
) -> dict[str, str]:
    """Returns the choice of least loss, or of least cost, that keeps to limits.

    One binary variable for each candidate of each group; in each group they add up to one. Of choices with equal
    costs the one of least loss is returned.

    Source: the formulation is that of HAWQ-V3 (Z. Yao et al. 2021, arXiv 2011.10680, section 3.3); solved by HiGHS
    through `scipy.optimize.milp`.

    Args:
        problem: losses and costs.
        limits: by cost, the most that it may be; `loss` may be among them.
        minimize: `loss`, or the name of a cost.
        excluded: choices that are not to be returned, so that the next best one is.

    Raises:
        UnsupportedError: no choice keeps to the limits; says the least that can be had.

    Example:
        >>> problem = Problem(
        ...     ["a", "b"],
        ...     {"a": {"w8": 0.0, "w4": 0.1}, "b": {"w8": 0.0, "w4": 0.3}},
        ...     {"bits": {"a": {"w8": 4.0, "w4": 2.0}, "b": {"w8": 4.0, "w4": 2.0}}},
        ...     {},
        ... )
        >>> solve(problem, {"bits": 6.0})
        {'a': 'w4', 'b': 'w8'}
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    table = _Table(problem, [*limits, minimize])
    constraints = [LinearConstraint(rows, low, high) for rows, low, high in table.rules()]
    for name, most in limits.items():
        row = table.row(name)
        scale = max(float(np.abs(row).max()), 1e-300)
        constraints.append(LinearConstraint(row / scale, -np.inf, (most - problem.rest.get(name, 0.0)) / scale + TIGHT))
    for choice in excluded:
        constraints.append(LinearConstraint(table.chosen(choice), -np.inf, len(problem.groups) - 1))
    options = {"mip_rel_gap": 0.0, "time_limit": 30.0}
    with _silenced():
        found = milp(
            table.objective(minimize), constraints=constraints, integrality=np.ones(table.width), bounds=Bounds(0, 1),
            options=options,
        )  # fmt: skip
    if found.x is None:
        raise UnsupportedError(_impossible(problem, limits))
    return {group: name for (group, name), one in zip(table.columns, found.x, strict=False) if one > 0.5}


@contextmanager
def _silenced() -> Iterator[None]:
    """Sends what native code writes to standard output nowhere: HiGHS does, though told not to."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class _Table:
    """The variables of a problem, and rows over them: a candidate of a group each, then pairs that save something.

    A pair's variable is the product of two: `y <= a`, `y <= b` and `y >= a + b - 1`.

    Args:
        problem: losses and costs.
        named: the costs that matter, whose pairs get variables.
    """

    def __init__(self, problem: Problem, named: Sequence[str]) -> None:
        self.problem, self.columns = problem, problem.columns()
        pairs = [pair for name in named for pair in problem.saved.get(name, {})]
        self.pairs = [pair for pair in dict.fromkeys(pairs) if all((one, FLOAT) in self.columns for one in pair)]
        self.width = len(self.columns) + len(self.pairs)

    def rules(self) -> Iterator[tuple[np.ndarray, float, float]]:
        """Yields rows that hold of every choice, and their bounds: one candidate for each group; pairs are products."""
        one_each = np.zeros((len(self.problem.groups), self.width))
        for place, (group, _) in enumerate(self.columns):
            one_each[self.problem.groups.index(group), place] = 1
        yield one_each, 1, 1
        for place, pair in enumerate(self.pairs, len(self.columns)):
            both, product = np.zeros(self.width), np.zeros(self.width)
            both[[self.columns.index((one, FLOAT)) for one in pair]], product[place] = 1, 1
            yield both - 2 * product, 0, 1

    def chosen(self, choice: Mapping[str, str]) -> np.ndarray:
        """Returns the row that adds up to the number of groups for a choice, and to less for any other."""
        row = np.zeros(self.width)
        row[: len(self.columns)] = [choice[group] == name for group, name in self.columns]
        return row

    def row(self, name: str) -> np.ndarray:
        """Returns the row of a cost, or of `loss`."""
        known = self.problem.loss if name == LOSS else self.problem.cost[name]
        saved = self.problem.saved.get(name, {})
        of_columns = [known[group][candidate] for group, candidate in self.columns]
        return np.array([*of_columns, *(-saved.get(pair, 0.0) for pair in self.pairs)], dtype=float)

    def objective(self, minimize: str) -> np.ndarray:
        """Returns the row that is minimized, in units of its largest value; another one decides between equals."""
        second = LOSS if minimize != LOSS else next(iter(self.problem.cost))
        rows = [self.row(minimize), self.row(second)]
        scaled = [row / max(float(np.abs(row).max()), 1e-300) for row in rows]
        return scaled[0] + 1e-6 * scaled[1]


def _impossible(problem: Problem, limits: Mapping[str, float]) -> str:
    parts = []
    for name, most in limits.items():
        if name != LOSS:
            least, largest = problem.spread(name)
            parts.append(f"{name} {most:g} was asked for, and these candidates reach {least:.4g} to {largest:.4g}")
    remedy = "Add candidates that cost less, with --candidates, or raise the budget."
    return f"No choice keeps to the budget: {'; '.join(parts) or 'the loss is above it everywhere'}. {remedy}"


def next_best(
    problem: Problem, limits: Mapping[str, float], choice: Mapping[str, str], most: int
) -> list[dict[str, str]]:
    """Returns the choices that the programme has next, least predicted loss first, at most so many."""
    found: list[dict[str, str]] = []
    while len(found) < most:
        try:
            found.append(solve(problem, limits, excluded=[choice, *found]))
        except UnsupportedError:
            break  # there are no more
    return found
