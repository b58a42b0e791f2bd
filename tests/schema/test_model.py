from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.environment import packaged
from qzoo.errors import RecipeError, WeightsError
from qzoo.hub.index import HubIndex
from qzoo.results.training import read_training_report
from qzoo.schema.model import StrictModel, read_json_file
from tests.each import for_each


class Box(StrictModel):
    width: float
    count: int = 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 1.0, "widht": 2.0}, "Extra inputs are not permitted"),
        ({"width": "1"}, "valid number"),
        ({"width": 1.0, "count": 1.0}, "valid integer"),
        ({"width": math.nan}, "finite number"),
        ({"width": math.inf}, "finite number"),
        ({}, "Field required"),
    ],
)
def test_refuses(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Box.model_validate(fields)


def test_cannot_be_changed() -> None:
    box = Box(width=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        box.width = 2.0  # type: ignore[misc]


SHIPPED = packaged("cifar") / "artifacts" / "resnet20_cifar10_w4a4_lsq.training.json"
TEXT = SHIPPED.read_text(encoding="utf-8")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@for_each(
    ("content", "said"),
    [
        (b"", "the file: Invalid JSON: EOF"),
        (TEXT[: len(TEXT) // 2].encode(), "the file: Invalid JSON: EOF"),
        (TEXT.encode("utf-16"), "the file: Invalid JSON"),
        (TEXT.encode()[:20] + b"\xff\xfe" + TEXT.encode()[20:], "the file: Invalid JSON: .*unicode"),
        (b"[" * 100_000, "the file: Invalid JSON: recursion limit"),
        (b'{"name": ' * 100_000, "the file: Invalid JSON: recursion limit"),
        (b"null", "the file: Input should be an object"),
        (b"[]", "the file: Input should be an object"),
        (b"\x00", "the file: Invalid JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"(?i)x\.training\.json: {said}.*`qzoo finetune NAME` writes one"):
        read_training_report(written(tmp_path / "x.training.json", content))


@for_each(
    ("change", "said"),
    [
        ({"images": "64"}, "images: Input should be a valid integer"),
        ({"images": -1}, "images: Input should be greater than or equal to 0"),
        ({"top1": 101.0}, "top1: Input should be less than or equal to 100"),
        ({"seconds": float("nan")}, "seconds: Input should be a finite number"),
        ({"rows": [{"step": 1}]}, r"rows\.0\.epoch: Field required"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"name": "../../x"}, "name: String should match pattern"),
        ({"\x1b[31m" * 1000: 1}, r"\\x1b\[31m"),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = json.dumps(json.loads(TEXT) | change).encode()
    with pytest.raises(WeightsError, match=rf"training\.json: {said}") as caught:
        read_training_report(written(tmp_path / "training.json", content))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1200


def test_a_hundred_megabytes_a_folder_and_nothing_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "training.json").open("wb") as file:
        file.truncate(100_000_000)  # sparse: it takes no space
    with pytest.raises(WeightsError, match=r"training\.json has 100 MB, more than 4 MB\. `qzoo finetune"):
        read_training_report(tmp_path / "training.json")
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(WeightsError, match="No file at"):
            read_training_report(path)


def test_the_error_is_of_the_kind_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"x: the file: .* Do this\."):
        read_json_file(written(tmp_path / "x", b"{"), HubIndex, "Do this.", RecipeError)


def test_three_hundred_damaged_reports_end_with_a_message_or_are_reports(tmp_path: Path) -> None:
    dice, whole = random.Random(0), SHIPPED.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            place = dice.randrange(len(damaged))
            if dice.random() < 0.3:
                del damaged[place : place + dice.randrange(1, 2000)]
            else:
                damaged[place] = dice.randrange(256)
        try:
            # What is read is of the types and limits of a report: a digit may have changed, which only a manifest sees.
            assert read_training_report(written(tmp_path / "x.json", bytes(damaged))).seconds >= 0
        except WeightsError:
            refused += 1
    assert refused > 200
