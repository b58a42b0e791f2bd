from __future__ import annotations

import torch
from torch import nn

from qzoo.quant.eval_mode import device_of

META = nn.Linear(2, 2, device="meta")


def test_is_that_of_the_layers_own_tensors() -> None:
    assert device_of(META, nn.Sequential(nn.Linear(1, 1), META)) == torch.device("meta")


def test_is_the_models_where_the_layer_has_none() -> None:
    assert device_of(nn.AvgPool2d(2), nn.Sequential(META)) == torch.device("meta")


def test_is_torchs_default_where_there_are_no_tensors() -> None:
    pool = nn.AvgPool2d(2)
    assert device_of(pool, nn.Sequential(pool)) == torch.device("cpu")
    with torch.device("meta"):
        assert device_of(pool) == torch.device("meta")
