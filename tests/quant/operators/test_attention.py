"""Attention step by step is torch's own operator, values and gradients, as long as nothing is quantized."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from qzoo.quant.operators.attention import attention
from tests.each import for_each

GENERATOR = torch.Generator().manual_seed(0)
QUERY, KEY, VALUE = (torch.randn(2, 4, length, 8, generator=GENERATOR) for length in (5, 6, 6))
BLANK = torch.ones(5, 6, dtype=torch.bool)
BLANK[2] = False  # a row that nothing is left of
HOWS = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "causal": {"is_causal": True},
    "bool mask": {"attn_mask": BLANK},
    "float mask": {"attn_mask": torch.zeros(5, 6).masked_fill(~BLANK, -math.inf)},
    "learned bias": {"attn_mask": torch.randn(4, 5, 6, generator=GENERATOR)},
    "shared heads": {"enable_gqa": True},
}


def unchanged(_: str, x: Tensor) -> Tensor:
    return x


@for_each("how", HOWS)
def test_attention_is_that_of_torch(how: str) -> None:
    given = [one[:, :2] if how == "shared heads" and one is not QUERY else one for one in (QUERY, KEY, VALUE)]
    ours, theirs = ([one.clone().requires_grad_() for one in given] for _ in range(2))
    found, expected = attention(unchanged, *ours, **HOWS[how]), F.scaled_dot_product_attention(*theirs, **HOWS[how])
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_each_operand_passes_its_quantizer_the_query_scaled() -> None:
    seen: dict[str, Tensor] = {}
    attention(seen.setdefault, QUERY, KEY, VALUE)
    assert list(seen) == ["query", "key", "softmax", "value"]
    torch.testing.assert_close(seen["query"], QUERY / math.sqrt(8))
    torch.testing.assert_close(seen["softmax"].sum(-1), torch.ones(2, 4, 5))


def test_dropout_leaves_the_mean() -> None:
    torch.manual_seed(0)
    found = torch.stack([attention(unchanged, QUERY, KEY, VALUE, dropout_p=0.5) for _ in range(400)])
    assert float((found.mean(0) - attention(unchanged, QUERY, KEY, VALUE)).abs().mean()) < 0.05
