from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qzoo.schema.finetune import FinetuneSpec


def test_epochs_and_learning_rate_are_enough() -> None:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 1})
    assert (spec.lr, spec.optimizer, spec.schedule, spec.learn_scales) == (1.0, "sgd", "constant", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": "1e-4"}, "valid number"),
        ({"schedule": "cosin"}, "'constant', 'step' or 'cosine'"),
        ({"optimiser": "sgd"}, "Extra inputs are not permitted"),
        ({"momentum": 1}, "less than 1"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FinetuneSpec.model_validate({"epochs": 1, "lr": 1e-4} | change)
    assert message in str(caught.value)
