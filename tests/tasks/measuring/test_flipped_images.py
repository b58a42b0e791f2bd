"""Images that flipped: both answers, the most decisive first, and how many are left out."""

from __future__ import annotations

import torch

from qzoo.data import ArraySplit
from qzoo.results.details import Answer
from qzoo.tasks.evaluate import Evaluation
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.measuring.flipped_images import flipped_images
from qzoo.weights.receipt import Predictions


def evaluation(classes: list[int], margins: list[float]) -> Evaluation:
    predicted = Predictions(torch.tensor(classes).unsqueeze(1), torch.tensor(margins))
    return Evaluation(len(classes), None, None, predicted, 0.0)


def images() -> Images:
    pixels = torch.zeros(9, 1, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    return Images(ArraySplit("mine", "test", pixels, labels, ("cat", "dog")), [3, 4, 5, 6], None, 4)


def test_both_answers_and_what_they_mean() -> None:
    baseline = evaluation([0, 0, 2, 0], [1.0, 0.5, 0.25, 8.0])
    others = {"int8": evaluation([0, 1, 1, 0], [1.0, 0.5, 0.5, 8.0]), "w4": evaluation([1, 1, 2, 0], [4.0, 2.0, 1, 1])}
    found, left_out = flipped_images(images(), baseline, others, most=2)
    assert left_out == 1
    first, second = found
    assert (first.index, first.label, first.predicted, first.margin) == (3, "cat", "cat", 1.0)
    assert first.answers == (Answer("w4", "dog", 4.0),)
    assert first.kind(first.answers[0]) == "lost"
    assert (second.index, second.predicted) == (4, "cat")
    assert [(one.variant, second.kind(one)) for one in second.answers] == [("int8", "gained"), ("w4", "gained")]
    assert all(one.picture[8:12] == b"WEBP" for one in found)
    (*_, third), _ = flipped_images(images(), baseline, others)
    assert (third.label, third.predicted, third.answers[0].predicted) == ("class 2", "class 2", "dog")


def test_nothing_flips() -> None:
    same = evaluation([0, 1, 2, 0], [1.0] * 4)
    assert flipped_images(images(), same, {"int8": same}) == ([], 0)
