"""Which choices a search measures: uniform ones, and a curve between least and most; and which of them are on front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qzoo.errors import UnsupportedError
from qzoo.results.search import Cost, SearchPoint
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.searching.problem import Problem
from qzoo.tasks.searching.programme import solve

OF_STORAGE = ("bits", "size")
"""Costs of which the float model has so much that a curve up to it would show little else."""


def curve(
    problem: Problem, candidates: Sequence[str], cost: Cost, limits: Mapping[str, float], count: int
) -> list[SearchPoint]:
    """Returns choices to measure, without doubles: each candidate everywhere, and those of least loss along a cost.

    Args:
        problem: losses and costs.
        candidates: names.
        cost: what the curve goes along.
        limits: of other costs, which the curve keeps to.
        count: points of the curve, evenly spaced from the least cost to the most; of storage, to the most that a
            candidate besides `float` costs.
    """
    others = {name: most for name, most in limits.items() if name != cost}
    uniform = [_uniform(problem, name) for name in candidates if name != FLOAT]
    low, high = problem.spread(cost)
    if cost in OF_STORAGE:
        high = max(point.cost[cost] for point in uniform)
    points = []
    for place in range(count):
        most = low + (high - low) * place / max(count - 1, 1)
        try:
            points.append(point_of(problem, solve(problem, {**others, cost: most}), f"{cost} {most:.3g}"))
        except UnsupportedError:
            continue  # what is limited besides leaves nothing so cheap
    return without_doubles([*uniform, *points])


def _uniform(problem: Problem, name: str) -> SearchPoint:
    return point_of(problem, problem.plain(dict.fromkeys(problem.groups, name)), f"uniform {name}")


def point_of(problem: Problem, choice: Mapping[str, str], name: str) -> SearchPoint:
    """Returns a point that nobody measured yet."""
    return SearchPoint(
        name=name,
        choice=dict(choice),
        predicted_loss=problem.loss_of(choice),
        predicted_deviation=problem.deviation_of(choice),
        cost=problem.costs_of(choice),
    )


def without_doubles(points: Sequence[SearchPoint]) -> list[SearchPoint]:
    """Returns the points, of equal choices the first."""
    first: dict[frozenset[tuple[str, str]], SearchPoint] = {}
    for point in points:
        first.setdefault(frozenset(point.choice.items()), point)
    return list(first.values())


def with_front(points: Sequence[SearchPoint], cost: Cost) -> list[SearchPoint]:
    """Returns measured points, each saying whether no other one loses as little for less."""
    return [
        point.model_copy(update={"on_front": not any(_is_better(other, point, cost) for other in points)})
        for point in points
    ]


def _is_better(other: SearchPoint, point: SearchPoint, cost: Cost) -> bool:
    one, two = (other.cost[cost], other.lost), (point.cost[cost], point.lost)
    return one != two and one[0] <= two[0] and one[1] <= two[1]
