from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from qzoo.schema.model import StrictModel


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
