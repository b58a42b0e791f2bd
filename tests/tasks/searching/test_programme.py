import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import UnsupportedError
from qzoo.tasks.searching.neighbours import neighbours
from qzoo.tasks.searching.problem import Problem
from qzoo.tasks.searching.programme import next_best, solve

NAMES = ("w8", "w4", "w2")
BITS = {"w8": 8.0, "w4": 4.0, "w2": 2.0}


def problem_of(losses: list[list[float]], weights: list[float], rest: float = 0.0) -> Problem:
    groups = [f"g{n}" for n in range(len(losses))]
    loss = {group: dict(zip(NAMES, of_group, strict=True)) for group, of_group in zip(groups, losses, strict=True)}
    bits = {group: {name: weight * BITS[name] for name in NAMES} for group, weight in zip(groups, weights, strict=True)}
    return Problem(groups, loss, {"bits": bits}, {"bits": rest})


def everything(problem: Problem) -> list[dict[str, str]]:
    return [
        dict(zip(problem.groups, names, strict=True)) for names in itertools.product(NAMES, repeat=len(problem.groups))
    ]


# Losses that tell choices apart by more than the solver's tolerance.
rows = st.tuples(st.lists(st.integers(0, 1000), min_size=3, max_size=3, unique=True), st.integers(1, 9))
problems = st.lists(rows, min_size=1, max_size=4).map(lambda found: problem_of(*map(list, zip(*found, strict=True))))


@given(problem=problems, share=st.floats(0, 1))
def test_no_choice_within_the_budget_loses_less(problem: Problem, share: float) -> None:
    low, high = problem.spread("bits")
    most = low + share * (high - low)
    found = solve(problem, {"bits": most})
    allowed = [one for one in everything(problem) if problem.costs_of(one)["bits"] <= most + 1e-6]
    assert found in allowed
    assert problem.loss_of(found) == min(map(problem.loss_of, allowed))


@given(problem=problems, share=st.floats(0, 1))
def test_no_choice_that_loses_as_little_costs_less(problem: Problem, share: float) -> None:
    losses = [problem.loss_of(one) for one in everything(problem)]
    most = min(losses) + share * (max(losses) - min(losses))
    found = solve(problem, {"loss": most}, "bits")
    assert problem.loss_of(found) <= most + 1e-5
    least = min(problem.costs_of(one)["bits"] for one in everything(problem) if problem.loss_of(one) <= most)
    assert problem.costs_of(found)["bits"] == pytest.approx(least)


def test_next_best_comes_in_order_until_there_is_none() -> None:
    problem = problem_of([[0, 1, 5], [0, 2, 8]], [1, 1])  # every sum is another one
    best = solve(problem, {"bits": 16.0})
    others = next_best(problem, {"bits": 16.0}, best, 20)
    ranked = sorted(everything(problem), key=problem.loss_of)
    assert [best, *others] == ranked
    assert len(next_best(problem, {"bits": 16.0}, best, 3)) == 3


def test_neighbours_change_one_group_or_two_and_keep_to_the_budget() -> None:
    problem = problem_of([[0, 1, 5], [0, 2, 7], [0, 3, 4]], [1, 1, 1])
    choice = {"g0": "w4", "g1": "w4", "g2": "w4"}
    found = list(neighbours(problem, choice, {"bits": 12.0}, 100))
    allowed = [
        one
        for one in everything(problem)
        if problem.costs_of(one)["bits"] <= 12 and 1 <= sum(one[group] != choice[group] for group in choice) <= 2
    ]
    assert sorted(map(sorted, map(dict.items, found))) == sorted(map(sorted, map(dict.items, allowed)))
    assert [problem.loss_of(one) for one in found] == sorted(problem.loss_of(one) for one in allowed)
    assert list(neighbours(problem, choice, {"bits": 12.0}, 2)) == found[:2]


def test_candidates_that_do_the_same_stand_as_the_first() -> None:
    problem = Problem(["pool"], {"pool": {"w8": 0.5, "w4": 0.5}}, {"bits": {"pool": {"w8": 0.0, "w4": 0.0}}}, {})
    assert problem.plain({"pool": "w4"}) == {"pool": "w8"}
    assert solve(problem, {"bits": 1.0}) == {"pool": "w8"}
    assert next_best(problem, {"bits": 1.0}, {"pool": "w8"}, 5) == []


def test_the_rest_counts_towards_the_budget() -> None:
    problem = problem_of([[0, 1, 5]], [1], rest=3.0)
    assert solve(problem, {"bits": 11.0}) == {"g0": "w8"}
    assert solve(problem, {"bits": 10.9}) == {"g0": "w4"}
    assert problem.costs_of({"g0": "w2"}) == {"bits": 5.0}


def test_what_can_not_be_had_is_told_with_what_can() -> None:
    problem = problem_of([[0, 1, 5], [0, 2, 7]], [0.5, 0.5])
    with pytest.raises(UnsupportedError) as error:
        solve(problem, {"bits": 1.5})
    assert str(error.value) == (
        "No choice keeps to the budget: bits 1.5 was asked for, and these candidates reach 2 to 8. Add candidates that "
        "cost less, with --candidates, or raise the budget."
    )


@given(
    added=st.lists(st.integers(-5, 20), min_size=2, max_size=5),
    saved=st.lists(st.integers(-4, 6), min_size=4, max_size=4),
    losses=st.lists(st.integers(1, 50), min_size=5, max_size=5, unique=True),
    share=st.floats(0, 1),
)
def test_what_neighbours_in_float_save_counts(
    added: list[int], saved: list[int], losses: list[int], share: float
) -> None:
    groups = [f"g{n}" for n in range(len(added))]
    loss = {group: {"int8": float(one), "float": 0.0} for group, one in zip(groups, losses, strict=False)}
    cost = {group: {"int8": 0.0, "float": float(one)} for group, one in zip(groups, added, strict=True)}
    pairs = {pair: float(one) for pair, one in zip(itertools.pairwise(groups), saved, strict=False)}
    problem = Problem(groups, loss, {"latency": cost}, {"latency": 3.0}, {"latency": pairs})

    def latency(choice: dict[str, str]) -> float:
        both = sum(one for (a, b), one in pairs.items() if choice[a] == choice[b] == "float")
        return 3.0 + sum(cost[group][choice[group]] for group in groups) - both

    every = [
        dict(zip(groups, names, strict=True)) for names in itertools.product(["int8", "float"], repeat=len(groups))
    ]
    assert all(problem.costs_of(one)["latency"] == pytest.approx(latency(one)) for one in every)
    low, high = min(map(latency, every)), max(map(latency, every))
    most = low + share * (high - low)
    found = solve(problem, {"latency": most})
    assert latency(found) <= most + 1e-6
    assert problem.loss_of(found) == min(problem.loss_of(one) for one in every if latency(one) <= most + 1e-9)
    assert latency(solve(problem, {}, "latency")) == pytest.approx(low)
    assert all(latency(one) <= most + 1e-6 for one in neighbours(problem, found, {"latency": most}, 50))


def test_nothing_is_written_where_results_go(capfd: pytest.CaptureFixture[str]) -> None:
    problem = problem_of([[0, 1, 5], [0, 2, 8], [1, 3, 7]], [1, 2, 3])
    next_best(problem, {"bits": 30.0}, solve(problem, {"bits": 30.0}), 10)
    assert capfd.readouterr().out == ""
