from __future__ import annotations

import time
from fractions import Fraction
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.tasks.evaluate import Evaluation, Flips, flips_between, mcnemar
from qzoo.weights.receipt import Predictions

COUNTS = st.integers(0, 300)


def predicting(*classes: int) -> Evaluation:
    top = torch.tensor(classes).unsqueeze(1)
    return Evaluation(len(classes), None, None, Predictions(top, torch.zeros(len(classes))), 0.0)


def test_counts_the_flips_either_way_and_no_others() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    # Right in both, lost, lost, gained, wrong in both with the same class, wrong in both with another.
    flips = flips_between(predicting(0, 1, 2, 9, 9, 9), predicting(0, 7, 7, 3, 9, 7), labels)
    assert flips == Flips(lost=2, gained=1)
    assert flips.mcnemar_p == mcnemar(2, 1)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1))
def test_the_difference_is_that_of_the_accuracies(images: list[tuple[int, int, int]]) -> None:
    first, second, labels = torch.tensor(images).T
    flips = flips_between(predicting(*first.tolist()), predicting(*second.tolist()), labels)
    assert flips.lost - flips.gained == int((first == labels).sum() - (second == labels).sum())
    assert flips.lost + flips.gained <= int((first != second).sum())


@given(COUNTS, COUNTS)
def test_the_p_value_is_that_of_the_exact_binomial_test(lost: int, gained: int) -> None:
    flips, fewer = lost + gained, range(min(lost, gained) + 1)
    expected = min(1.0, float(Fraction(2 * sum(comb(flips, lost) for lost in fewer), 2**flips)))
    assert mcnemar(lost, gained) == mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("lost", "gained", "p"), [
    (0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (5, 3, 0.7265625), (4, 4, 1.0), (50_000, 0, 0.0),
])  # fmt: skip
def test_known_values(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == p


def test_the_worst_case_of_imagenet_takes_no_time() -> None:
    start = time.perf_counter()
    assert mcnemar(25_100, 24_900) == pytest.approx(0.3737, abs=1e-3)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("first", "second", "labels"), [((0,), (0, 1), 1), ((0, 1), (0, 1), 3)])
def test_other_images_can_not_be_compared(first: tuple[int, ...], second: tuple[int, ...], labels: int) -> None:
    with pytest.raises(ValueError, match=rf"{len(first)} and 2 predictions and {labels} labels can't be compared"):
        flips_between(predicting(*first), predicting(*second), torch.zeros(labels))
