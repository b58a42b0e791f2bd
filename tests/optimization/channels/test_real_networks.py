"""Folding and equalizing trained networks: the function stays on the images that were shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import qzoo
from qzoo.optimization.channels.equalize import equalize
from qzoo.optimization.channels.fold import fold_batch_norm
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.schema.optimize import Equalize
from tests.optimization.channels.networks import assert_made_of, assert_same_function, quantized

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")]


@pytest.mark.parametrize(
    ("name", "size", "pairs"), [("resnet20_cifar10", 32, 9), ("tf_efficientnet_lite0", 96, 35)], ids=str
)
def test_the_function_stays(
    name: str, size: int, pairs: int, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    model = qzoo.create(name, pretrained=True)
    x = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    made, record = quantized(model, x[:1]), ChannelFactors()
    folded = fold_batch_norm(made, record, [x[:1]])
    assert not [one.note for one in folded if one.note]
    assert_same_function(model, made, x)
    changes = equalize(made, Equalize(), record, [x[:2], x[2:]])
    assert sum(one.before is not None for one in changes) == pairs
    assert_same_function(model, made, x, tolerance=3e-5)
    assert_made_of(model, made, record)
