import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qzoo.errors import DataError
from qzoo.progress import silent
from qzoo.results.search import SearchPoint
from qzoo.tasks.searching import measured
from qzoo.tasks.searching.measured import measure, paired_interval

BATCHES = [
    (torch.eye(4), torch.tensor([0, 1, 2, 3])),
    (torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), torch.tensor([1, 1])),
]


class Swaps(nn.Module):
    """Predicts the largest input, after two of them were exchanged."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__()
        self.order = [other if n == one else one if n == other else n for n in range(4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.order]


def point(name: str) -> SearchPoint:
    return SearchPoint(name=name, choice={"g": name}, predicted_loss=0.0, predicted_deviation=0.0, cost={"bits": 8.0})


def test_drop_and_agreement_by_hand() -> None:
    swaps = {"none": Swaps(0, 0), "01": Swaps(0, 1)}
    found, of_float, images = measure(
        Swaps(0, 0), [point("none"), point("01")], lambda one: swaps[one.name], BATCHES, to_inputs=None, logits=None,
        progress=silent, count=None,
    )  # fmt: skip
    assert (images, of_float.top1) == (6, pytest.approx(100 * 5 / 6, abs=1e-4))
    same, swapped = found
    assert (same.drop, same.agreement, same.lost) == (0, 100, 0)
    # Classes 0 and 1 exchanged: the first two and the last image are lost, the fifth is gained.
    assert swapped.drop == pytest.approx(100 * (3 - 1) / 6, abs=1e-4)
    assert swapped.agreement == pytest.approx(100 * 2 / 6, abs=1e-4)
    assert swapped.drop_ci95 == paired_interval(3, 1, 6)


def test_without_labels_other_predictions_count() -> None:
    (found,), of_float, _ = measure(
        Swaps(0, 0), [point("01")], lambda _: Swaps(0, 1), [x for x, _ in BATCHES], to_inputs=None, logits=None,
        progress=silent, count=None,
    )  # fmt: skip
    assert (found.drop, found.drop_ci95, of_float.top1) == (None, None, None)
    assert found.lost == pytest.approx(100 * 4 / 6, abs=1e-4)


def test_models_that_do_not_fit_together_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    passed = measured._passed

    def watched(float_model: nn.Module, models: dict[str, nn.Module], *given: object, **named: object) -> object:
        held.append(len(models))
        return passed(float_model, models, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(measured, "_passed", watched)
    monkeypatch.setattr(measured, "MEMORY", 2 * 4 * 20)
    heavy = nn.Linear(4, 4)  # 20 values of 4 bytes
    points = [point(str(n)) for n in range(5)]
    found, _, _ = measure(
        heavy, points, lambda _: heavy, BATCHES, to_inputs=None, logits=None, progress=silent, count=None
    )
    assert held == [2, 2, 1]
    assert [one.agreement for one in found] == [100] * 5


def test_no_images_are_told() -> None:
    with pytest.raises(DataError, match="There are no images"):
        measure(
            Swaps(0, 0), [point("01")], lambda _: Swaps(0, 1), [], to_inputs=None, logits=None, progress=silent,
            count=None,
        )  # fmt: skip


@given(lost=st.integers(0, 300), gained=st.integers(0, 300), more=st.integers(0, 5000))
def test_the_interval_is_that_of_agresti_and_min(lost: int, gained: int, more: int) -> None:
    images = lost + gained + more + 1
    low, high = paired_interval(lost, gained, images)
    # Their formula in proportions, with half an image in each of the four cells.
    b, c, n = (lost + 0.5) / (images + 2), (gained + 0.5) / (images + 2), images + 2
    half = 1.959964 * math.sqrt(((b + c) - (b - c) ** 2) / n)
    assert (low, high) == pytest.approx((100 * (b - c - half), 100 * (b - c + half)), abs=0.0051)
    assert paired_interval(gained, lost, images) == pytest.approx((-high, -low), abs=1e-9)
