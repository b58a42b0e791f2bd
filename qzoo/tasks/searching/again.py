"""Another budget, solved from the scores of a search: without images, without a model, and without torch."""

from __future__ import annotations

from collections.abc import Mapping

from qzoo.errors import ArgumentError
from qzoo.results.search import SearchPoint, SearchReport
from qzoo.tasks.searching.curve import point_of
from qzoo.tasks.searching.limits import checked_budget, limits_of
from qzoo.tasks.searching.problem import Problem
from qzoo.tasks.searching.programme import solve


def problem_of(report: SearchReport) -> Problem:
    """Returns losses and costs of a report."""
    costs = report.groups[0].cost
    return Problem(
        [group.name for group in report.groups],
        {group.name: group.loss for group in report.groups},
        {cost: {group.name: group.cost[cost] for group in report.groups} for cost in costs},
        report.rest,
    )


def solved_again(report: SearchReport, budget: Mapping[str, float | None]) -> SearchReport:
    """Returns the report for another budget; its solution has measurements only where that very choice was measured.

    With `max_drop`, the cheapest measured point that loses no more; nothing can be said of others without images.

    Args:
        report: of a search of the same model.
        budget: what may be spent, as for `qzoo.search`.

    Raises:
        ArgumentError: the budget is none, or speaks of a cost that the search did not have.
        UnsupportedError: no choice keeps to it.
    """
    said = checked_budget(budget)
    problem, limits = problem_of(report), limits_of(said)
    if missing := [name for name in limits if name not in problem.cost]:
        raise ArgumentError(f"This search has no {missing[0]}. Search again with target='onnxruntime' or 'openvino'.")
    if "max_drop" in said:
        solution = _measured_within(report, said["max_drop"], limits)
    else:
        choice = solve(problem, limits)
        known = next((point for point in report.points if point.choice == choice), None)
        solution = known or point_of(problem, choice, "solution")
    others = [point for point in report.points if point.choice != solution.choice and point.name != "solution"]
    solution = solution.model_copy(update={"name": "solution"})
    return report.model_copy(update={"budget": said, "points": [solution, *others]})


def _measured_within(report: SearchReport, most: float, limits: Mapping[str, float]) -> SearchPoint:
    good = [
        point
        for point in report.points
        if point.lost <= most and all(point.cost[name] <= limit for name, limit in limits.items())
    ]
    if not good:
        least = min(report.points, key=lambda point: point.lost)
        raise ArgumentError(
            f"No point that was measured loses at most {most:g}; the least is {least.lost:.2f}. Search again with "
            "other candidates."
        )
    cost = report.minimize if report.minimize != "loss" else next(iter(report.groups[0].cost))
    return min(good, key=lambda point: (point.cost[cost], point.lost))
