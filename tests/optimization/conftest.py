"""Small models that are quantized and calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import qzoo

Calibrated = Callable[..., nn.Module]


@pytest.fixture
def calibrated() -> Calibrated:
    """Quantizes a model by a scheme, and calibrates it on images."""

    def make(model: nn.Module, images: Any, scheme: str = "w4a8") -> nn.Module:
        quantized = qzoo.quantize(model.eval(), scheme, example=images)
        return qzoo.calibrate(quantized, [images])

    return make
