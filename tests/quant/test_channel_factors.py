"""Factors of channels: a weight is the original times them, bit for bit, whatever its layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qzoo.quant.channel_factors import ChannelFactors, channel_maxima, magnitudes_of, scaled
from tests.each import for_each

LAYOUTS: list[tuple[nn.Module, int]] = [
    (nn.Linear(4, 6), 0),
    (nn.Conv1d(4, 6, 3), 0),
    (nn.Conv2d(4, 6, 3), 0),
    (nn.Conv3d(4, 6, 1), 0),
    (nn.Conv2d(4, 6, 3, groups=2), 0),
    (nn.Conv2d(4, 8, 3, groups=4), 0),
    (nn.ConvTranspose1d(4, 6, 3), 1),
    (nn.ConvTranspose2d(4, 6, 2), 1),
    (nn.ConvTranspose2d(4, 6, 2, groups=2), 1),
    (nn.ConvTranspose3d(4, 4, 1, groups=4), 1),
]


def sizes(layer: Any) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels


def sample(layer: nn.Module) -> torch.Tensor:
    dims = layer.weight.dim() - 2
    return torch.randn(2, 4, *[5] * dims, dtype=torch.float64)


@for_each("layer, axis", LAYOUTS)
def test_rows_scale_what_comes_out_and_columns_what_goes_in(layer: Any, axis: int) -> None:
    torch.manual_seed(0)
    rows, columns = (torch.rand(size, dtype=torch.float64) + 0.5 for size in sizes(layer))
    layer, x = layer.double(), sample(layer)
    layer.bias.data.zero_()
    rest = [1] * (x.dim() - 2)
    wanted = layer(x * columns.view(-1, *rest)) * rows.view(-1, *rest)
    weight = scaled(layer.weight.data, rows, columns, axis)
    torch.testing.assert_close(torch.func.functional_call(layer, {"weight": weight}, (x,)), wanted)


@for_each("layer, axis", LAYOUTS)
def test_the_largest_of_each_channel_is_that_of_its_kernels(layer: Any, axis: int) -> None:
    outputs, inputs = sizes(layer)
    magnitudes = magnitudes_of(layer.weight)
    for channels, place in ((outputs, axis), (inputs, 1 - axis)):
        found = channel_maxima(magnitudes, place, channels)
        for channel in range(channels):
            alone = torch.zeros(channels).index_fill_(0, torch.tensor([channel]), 1)
            kept = scaled(layer.weight.data, *((alone, None) if place == axis else (None, alone)), axis)
            assert found[channel] == kept.abs().max()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**31)), min_size=1, max_size=6))
def test_after_any_steps_the_weight_is_the_original_times_the_factors(steps: list[tuple[bool, int]]) -> None:
    original = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(len(steps)))
    weight, record = original.clone(), ChannelFactors()
    for is_row, seed in steps:
        factors = torch.rand(6 if is_row else 4, generator=torch.Generator().manual_seed(seed)) * 3
        record.multiply("conv", weight, **{"rows" if is_row else "columns": factors})
    known = record.weights["conv"]
    assert torch.equal(weight, scaled(original, known.rows, known.columns, known.axis))
    rows = np.ones(6, np.float32) if known.rows is None else known.rows.numpy()
    columns = np.ones(4, np.float32) if known.columns is None else known.columns.numpy()
    by_hand = original.numpy() * rows[:, None, None] * columns.reshape(2, 2).repeat(3, 0)[:, :, None]
    np.testing.assert_array_equal(weight.numpy(), by_hand)


def test_the_product_is_float32_and_rounded_once() -> None:
    weight = torch.tensor([[3.0]], dtype=torch.bfloat16)
    found = scaled(weight, torch.tensor([1.004]), torch.tensor([0.998]))
    assert found.dtype == torch.bfloat16
    assert found.item() == 3.0  # 3.006 in float32; rounded after the rows too, it were 3.015625


def test_steps_that_are_undone_leave_every_bit() -> None:
    original = torch.randn(3, 3)
    weight, record = original.clone(), ChannelFactors()
    record.multiply("a", weight, rows=torch.rand(3))
    record.undo({"a": weight})
    assert torch.equal(weight, original)
    assert not record.weights


def test_factors_that_do_not_fit_are_told_of() -> None:
    with pytest.raises(ValueError, match=r"5 factors do not fit a weight of shape \(4, 2\): axis 0 has 4 channels"):
        scaled(torch.ones(4, 2), torch.ones(5), None)
    with pytest.raises(ValueError, match=r"3 factors do not fit .* axis 1 has a multiple of 2 channels"):
        scaled(torch.ones(4, 2), None, torch.ones(3))
