from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qzoo.weights.artifact import content_digest
from tests.each import for_each

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def test_is_a_fixed_number() -> None:
    assert content_digest(TENSORS) == "19c9b851e986b339c8d3a45730209afebe4311555ece128beca04e4343d371d0"


def test_order_and_layout_do_not_count() -> None:
    again = {"b": TENSORS["b"].clone(), "a": TENSORS["a"].T.contiguous().T.requires_grad_()}
    assert content_digest(again) == content_digest(TENSORS)


@pytest.mark.parametrize("change", [
    {"a": TENSORS["a"].reshape(3, 2)},
    {"a": TENSORS["a"].double()},
    {"a": TENSORS["a"].view(torch.int32)},
    {"c": torch.zeros(0)},
    {"b": torch.tensor([2, 1])},
], ids=["shape", "dtype", "same bytes of another dtype", "name", "values"])  # fmt: skip
def test_shape_dtype_name_and_values_count(change: dict[str, Tensor]) -> None:
    assert content_digest(TENSORS | change) != content_digest(TENSORS)


@given(st.integers(0, 5), st.integers(0, 31))
def test_every_bit_counts(position: int, bit: int) -> None:
    flipped = TENSORS["a"].clone()
    flipped.view(torch.int32).view(-1)[position] ^= torch.tensor(1, dtype=torch.int32) << bit
    assert content_digest(TENSORS | {"a": flipped}) != content_digest(TENSORS)


@for_each("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@for_each("shape", [(), (0, 3), (2, 3)])
def test_takes_any_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    zeros, ones = torch.zeros(shape).to(dtype), torch.ones(shape).to(dtype)
    assert (content_digest({"x": zeros}) == content_digest({"x": ones})) == (0 in shape)
