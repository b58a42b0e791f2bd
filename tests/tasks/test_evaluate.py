from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qzoo.errors import DataError
from qzoo.tasks.evaluate import evaluate, wilson_interval


class Logarithm(nn.Module):
    """Has logits of any kind."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Fixed(nn.Module):
    """Passes its input on: the images are the logits."""

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        return x


LOGITS = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6], [1, 9, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 9, 6], [9, 8, 7, 6, 5, 4, 3]])
LABELS = torch.tensor([0, 2, 6, 6])


def test_counts_top1_and_top5() -> None:
    result = evaluate(Fixed().train(), [(LOGITS[:3], LABELS[:3]), (LOGITS[3:], LABELS[3:])])
    assert (result.images, result.top1, result.top5) == (4, 25.0, 50.0)
    assert result.predictions.tolist() == [0, 1, 5, 0]
    assert result.ci95 == wilson_interval(1, 4)


def test_fewer_than_five_classes_have_a_top5_of_100() -> None:
    assert evaluate(Fixed(), [(torch.eye(3), torch.tensor([2, 0, 1]))]).top5 == 100


def test_margins_and_the_likeliest_classes_are_kept() -> None:
    predicted = evaluate(Fixed(), LOGITS).predicted
    assert predicted.top[0].tolist() == [0, 6, 5, 4, 3]
    assert predicted.margins.tolist() == [3, 3, 3, 1]
    assert evaluate(Fixed(), torch.eye(3)).predicted.top.shape == (3, 3)
    assert evaluate(Fixed(), torch.ones(2, 1)).predicted.margins.tolist() == [0, 0]


def test_what_is_no_table_of_logits_is_refused() -> None:
    with pytest.raises(DataError, match=r"output has shape \(2, 3, 4, 4\); a classifier's is \(images, classes\)"):
        evaluate(Fixed(), torch.ones(2, 3, 4, 4))


def test_without_labels_there_are_predictions_and_no_accuracy() -> None:
    result = evaluate(Fixed(), LOGITS)
    assert (result.images, result.top1, result.top5, result.ci95) == (4, None, None, None)


def test_the_model_stays_in_the_mode_it_was_in() -> None:
    model = Fixed().train()
    evaluate(model, LOGITS)
    assert model.training


def test_frozen_parts_of_a_training_model_stay_frozen() -> None:
    model = nn.Sequential(nn.Identity(), Fixed()).train()
    model[0].eval()
    evaluate(model, LOGITS)
    assert [module.training for module in model.modules()] == [True, False, True]


def test_agreement() -> None:
    one, other = evaluate(Fixed(), LOGITS), evaluate(Fixed(), LOGITS.flip(0))
    assert one.agreement(one) == 100
    assert one.agreement(other) == 50
    with pytest.raises(ValueError, match="evaluations of 4 and 2 images can't be compared"):
        one.agreement(evaluate(Fixed(), LOGITS[:2]))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "There are no images to evaluate on"),
        (
            torch.full((2, 3), torch.nan),
            r"Item 0 of the images, float32 \(2, 3\), holds NaN or Inf. Look",
        ),
        (torch.full((2, 3), torch.inf), "Item 0 of the images, .* holds NaN or Inf"),
        ([(LOGITS, LABELS), LOGITS], "Only 4 of 8 images have labels"),
        ([(LOGITS, LABELS + 7)], r"Item 0 of the images: its labels are 7 to 13; the model has 7 classes"),
        ([(LOGITS, LABELS.float())], r"Item 0 of the images has labels float32 \(4,\)\. Labels are whole numbers"),
        (["a.png"], r"Item 0 of the images is str; expected a tensor \(N, C, H, W\); \(x, y\)"),
    ],
)
def test_bad_images(images: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        evaluate(Fixed(), images)


@pytest.mark.parametrize(("value", "kind"), [(-1.0, "NaN"), (0.0, "Inf")])
def test_logits_that_are_no_numbers(value: float, kind: str) -> None:
    with pytest.raises(DataError, match=f"Item 0 of the images: the model's output holds {kind}. Look at the images"):
        evaluate(Logarithm(), torch.full((2, 3), value))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(hits_of: tuple[int, int]) -> None:
    hits, trials = hits_of
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= 100 * hits / trials + 0.005
    assert 100 * hits / trials - 0.005 <= high <= 100


@given(st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=20))
def test_of_equal_logits_the_first_class_is_the_likelier(rows: list[list[int]]) -> None:
    logits = torch.tensor(rows, dtype=torch.float32)
    predicted = evaluate(Fixed(), logits).predicted
    by_hand = [sorted(range(6), key=lambda place: (-row[place], place))[:5] for row in rows]
    assert predicted.top.tolist() == by_hand
    assert predicted.top[:, 0].tolist() == logits.numpy().argmax(1).tolist() == logits.argmax(1).tolist()
    assert predicted.margins.tolist() == [sorted(row)[-1] - sorted(row)[-2] for row in rows]


def test_many_equal_logits_of_many_classes() -> None:
    logits = torch.randint(-3, 4, (4000, 1000), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(evaluate(Fixed(), logits.split(512)).predictions, logits.argmax(1))
    assert torch.equal(evaluate(Fixed(), logits.to(torch.bfloat16)).predictions, logits.argmax(1))


def test_a_class_that_is_never_predicted_has_a_logit_of_minus_infinity() -> None:
    predicted = evaluate(Logarithm(), torch.tensor([[4.0, 0.0, 2.0], [0.0, 2.0, 0.0]])).predicted
    assert predicted.top.tolist() == [[0, 2, 1], [1, 0, 2]]
    assert predicted.margins.tolist() == pytest.approx([math.log(2), torch.finfo(torch.float32).max])
