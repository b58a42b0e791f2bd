"""Budgets: what may be spent, in which ranges, and which cost each of them limits."""

from __future__ import annotations

from collections.abc import Mapping

from qzoo.errors import ArgumentError, did_you_mean
from qzoo.results.search import Budget, Cost

LIMITED: dict[Budget, Cost] = {"bits": "bits", "size": "size", "macs_int": "macs_float", "latency": "latency"}
"""The cost that a budget limits."""
MEANING: dict[Budget, str] = {
    "max_drop": "points of top-1 that may be lost, such as 0.5",
    "bits": "the average bits of a weight, such as 5.2",
    "size": "storage in shares of the float model's, such as 0.2",
    "macs_int": "the least share of multiply-accumulates on integers, such as 0.99",
    "latency": "latency in shares of the float model's, such as 0.45",
}
RANGES: dict[Budget, tuple[float, float]] = {
    "max_drop": (0, 100), "bits": (1, 32), "size": (0, 1), "macs_int": (0, 1), "latency": (0, 10),
}  # fmt: skip


def limits_of(budget: Mapping[Budget, float]) -> dict[str, float]:
    """Returns the most that costs may be.

    Example:
        >>> limits_of({"macs_int": 0.75, "max_drop": 0.5})
        {'macs_float': 0.25}
    """
    said = {name: most for name, most in budget.items() if name in LIMITED}
    return {LIMITED[name]: 1 - most if name == "macs_int" else most for name, most in said.items()}


def checked_budget(budget: Mapping[str, float | None]) -> dict[Budget, float]:
    """Returns a budget without what nobody said, within its ranges.

    Raises:
        ArgumentError: it is empty, or holds anything else; says what is accepted.

    Example:
        >>> checked_budget({"bits": 5, "size": None})
        {'bits': 5.0}
    """
    said = {name: most for name, most in budget.items() if most is not None}
    for name, most in said.items():
        if name not in RANGES:
            raise ArgumentError(f"'{name}' is no budget. {did_you_mean(name, RANGES)}")
        low, high = RANGES[name]
        if not low <= most <= high:
            raise ArgumentError(f"The budget {name}={most!r} is not from {low:g} to {high:g}: {MEANING[name]}.")
    if not said:
        listed = "; ".join(f"{name}, {meaning}" for name, meaning in MEANING.items())
        raise ArgumentError(f"A search needs a budget: {listed}.")
    return {name: float(said[name]) for name in RANGES if name in said}
