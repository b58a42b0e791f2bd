"""Calibrators side by side: one pass to collect, the figures that each would have alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.data import loader, open_split
from qzoo.errors import ArgumentError, DataError, RuleError
from qzoo.quant.ranges import quantizers
from qzoo.tasks.compare import USUAL
from tests.each import for_each

NAME = "resnet8_digits_w4a4"


@cache
def digits(split: str, images: int) -> list[tuple[Tensor, Tensor]]:
    return list(loader(open_split("digits", split), qzoo.transform(NAME), 50, range(images)))


def seen() -> list[tuple[Tensor, Tensor]]:
    return digits("train", 100)


def labelled() -> list[tuple[Tensor, Tensor]]:
    return digits("test", 200)


class Counting:
    """A progress that notes what was gone through."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def __call__(self, items: Iterable[Any], images: int | None, what: Any) -> Iterator[Any]:
        batches = list(items)
        self.said.append((what, len(batches)))
        return iter(batches)


def test_each_has_the_figures_that_it_has_alone_of_one_pass() -> None:
    net, passes = qzoo.create("resnet8_digits", pretrained="float"), Counting()
    found = qzoo.compare(net, iter(seen()), iter(labelled()), scheme="w4a4", progress=passes)
    assert passes.said == [("calibrating", 2), ("comparing", 4)]
    assert not quantizers(net)
    baseline = qzoo.evaluate(net, labelled())
    assert (found.name, found.images, found.float_top1) == ("w4a4", 200, baseline.top1)
    assert len(found.rows) == len(USUAL) == 5
    for row in found.rows:
        model = qzoo.calibrate(qzoo.quantize(net, "w4a4", calibrator=row.calibrator), seen())
        alone = qzoo.evaluate(model, labelled())
        assert row.top1 == pytest.approx(alone.top1)
        assert row.agreement == pytest.approx(alone.agreement(baseline))
        sqnr = qzoo.sensitivity(model, labelled(), mend=0).quantized.sqnr_db
        assert row.sqnr_db == pytest.approx(sqnr, abs=1e-3)


def test_the_best_stands_first_and_is_what_quantize_takes() -> None:
    found = qzoo.compare(NAME, seen(), labelled())
    ranks = [(row.top1, row.agreement, row.sqnr_db) for row in found.rows]
    assert ranks == sorted(ranks, reverse=True)
    net = qzoo.create("resnet8_digits")
    spec = qzoo.quantize(net, "w4a4", calibrator=found.best).conv1.input_quantizer.spec  # type: ignore[union-attr]
    assert spec.calibrator == found.rows[0].calibrator  # type: ignore[union-attr]


def test_is_shown_as_a_table_and_as_json() -> None:
    found = qzoo.compare(NAME, seen(), labelled(), calibrators=["max", {"percentile": 99.9}])
    lines = str(found).splitlines()
    assert lines[4].split()[1:] == ["calibrator", "top1", "agreement", "sqnr_db"]
    assert {" ".join(line.split()[:-3]) for line in lines[5:7]} == {"max", "percentile 99.9"}
    content = json.loads(found.to_json())
    assert content["schema"] == 1
    assert {"percentile": 99.9} in [row["calibrator"] for row in content["rows"]]


def test_skip_and_rules_of_a_quantized_model_hold() -> None:
    net = qzoo.create("resnet8_digits", pretrained="float")
    everything = ["conv1", "layer*", "avgpool", "linear"]
    part = qzoo.quantize(net, "w4a4", skip=everything[:-1])
    (row,) = qzoo.compare(part, seen(), labelled(), calibrators=["max"]).rows
    (whole,) = qzoo.compare(net, seen(), labelled(), scheme="w4a4", calibrators=["max"]).rows
    assert row.sqnr_db is not None
    assert whole.sqnr_db is not None
    assert row.sqnr_db > whole.sqnr_db + 1


def test_without_labels_there_is_no_top1() -> None:
    found = qzoo.compare(NAME, seen(), labelled()[0][0], calibrators=["mse", "max"])
    assert found.float_top1 is None
    assert [row.top1 for row in found.rows] == [None, None]
    assert found.rows[0].agreement >= found.rows[1].agreement


@for_each(("arguments", "options", "kind", "message"), lambda: [
    ((NAME, seen(), labelled()), {"calibrators": ["mze"]}, RuleError, r"calibrator='mze': unknown .* Did you mean"),
    ((NAME, seen(), labelled()), {"calibrators": []}, ArgumentError, r"got calibrators=\[\]; expected at least one"),
    ((NAME, seen(), labelled()), {"calibrators": "mse"}, ArgumentError, r"got calibrators='mse' of type str; expected"),
    ((NAME, seen(), []), {}, DataError, r"There are no images to compare on\."),
    ((NAME, seen(), labelled()), {"scheme": "int8"}, ArgumentError, r"got scheme='int8' for a quantized model"),
    ((torch.nn.Linear(2, 2), seen()), {}, ArgumentError, r"compare\(\) got no labelled; only the name of a variant"),
])  # fmt: skip
def test_what_can_not_be_compared(arguments: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        qzoo.compare(*arguments, **options)
