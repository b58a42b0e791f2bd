from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qzoo.weights.values import bool_fault, constant_fault, plain_fault, value_fault

INF = torch.inf


@pytest.mark.parametrize(
    ("key", "values", "weight", "fault"),
    [
        ("conv.weight", [1.0, -3e38], True, None),
        ("conv.weight", [1.0, INF], True, "holds NaN or Inf in conv.weight"),
        ("attention.mask", [0.0, -INF], False, None),
        ("attention.mask", [0.0, torch.nan], False, "holds NaN or Inf in attention.mask"),
        ("bn.running_mean", [0.0, INF], False, "holds NaN or Inf in bn.running_mean"),
        ("bn.running_var", [0.0, 1.0], False, None),
        ("bn.running_var", [1.0, -0.5], False, "holds -0.5 in bn.running_var, and a variance is at least 0"),
    ],
)
def test_values(key: str, values: list[float], weight: bool, fault: str | None) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        if not (weight and 3e38 in map(abs, values) and dtype is torch.bfloat16):
            assert value_fault(key, torch.tensor(values, dtype=dtype), weight=weight) == fault


def test_a_buffer_is_infinite_where_the_models_own_is() -> None:
    own, other = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    assert value_fault("mask", own, own=own) is None
    assert value_fault("mask", other, own=own) == "holds NaN or Inf in mask"
    assert value_fault("mask", other, own=own.to("meta")) is None


def test_counters_and_tables() -> None:
    assert value_fault("bn.num_batches_tracked", torch.tensor(0)) is None
    fault = value_fault("bn.num_batches_tracked", torch.tensor(-7))
    assert fault == "holds -7 in bn.num_batches_tracked, and a count is at least 0"
    table = torch.tensor([3, 1, 2])
    assert constant_fault("index", table.clone(), table) is None
    fault = constant_fault("index", table + 10**9, table)
    assert fault == "holds another index than the table that the model's class computes"
    assert constant_fault("x", torch.ones(2), torch.zeros(2)) is None  # no table


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        (torch.ones(2, 3), None),
        (torch.ones(1).expand(64), None),
        (torch.ones(1).expand(10**12), "claims 1,000,000,000,000 values of 4 bytes"),
        (torch.ones(2, 2).to_sparse(), "is no dense tensor with values"),
        (torch.ones(2, device="meta"), "is no dense tensor with values"),
        (torch.zeros(2, dtype=torch.uint16), "holds uint16"),
    ],
)
def test_plain_tensors(tensor: Tensor, fault: str | None) -> None:
    found = plain_fault(tensor)
    assert found is None if fault is None else str(found).startswith(fault)


def test_truth_values_are_0_or_1() -> None:
    assert not bool_fault(torch.tensor([True, False]))
    assert not bool_fault(torch.tensor([], dtype=torch.bool))
    assert bool_fault(torch.tensor([1, 2], dtype=torch.uint8).view(torch.bool))
