"""Scaled dot-product attention as two matrix products, so that all four of their operands can be quantized.

`F.scaled_dot_product_attention` is one operator, whose second product multiplies what it computed itself. While a
quantizer is on, attention is computed step by step; with all of them off, by torch's own operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PRODUCTS = {"query": (0, "left"), "key": (0, "right"), "softmax": (1, "left"), "value": (1, "right")}
"""Which product each operand of attention belongs to, and which side of it."""
WAYS = frozenset({"sdpa", "matmul"})
"""The two ways that torch's `multi_head_attention_forward` computes attention, as `need_weights` says."""
Quantize = Callable[[str, Tensor], Tensor]
"""Quantizes an operand by name: `query`, `key`, `softmax`, `value`."""


def attention(
    quantized: Quantize,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Returns what `F.scaled_dot_product_attention` does, of quantized operands.

    The query is scaled before it is quantized, as models do that compute attention by themselves: so both have the same
    ranges. A row that the mask leaves nothing of gives 0.

    Args:
        quantized: quantizes an operand.
        query: float `(..., L, E)`.
        key: float `(..., S, E)`.
        value: float `(..., S, V)`.
        attn_mask: bool, False where a position takes no part, or float, which is added to the scores.
        dropout_p: the share of the softmax that is dropped.
        is_causal: no position sees a later one.
        scale: a factor of the query; default: `1 / sqrt(E)`.
        enable_gqa: several heads of the query share one of key and value.

    Source: A. Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, and torch's documentation of the
    function.

    Example:
        >>> x = torch.eye(2).view(1, 2, 2)
        >>> torch.allclose(attention(lambda _, x: x, x, x, x), F.scaled_dot_product_attention(x, x, x))
        True
    """
    if enable_gqa:
        heads = query.shape[-3] // key.shape[-3]
        key, value = (one.repeat_interleave(heads, -3) for one in (key, value))
    scaled = query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = quantized("query", scaled) @ quantized("key", key.transpose(-2, -1))
    mask = _mask(scores, attn_mask, is_causal)
    weights = scores.softmax(-1) if mask is None else _masked_softmax(scores + mask)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return quantized("softmax", weights) @ quantized("value", value)


def _masked_softmax(scores: Tensor) -> Tensor:
    # Filled before as well: the gradient of a softmax that is NaN is NaN, whatever stands in its place.
    empty = (scores == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def _mask(scores: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Returns what is added to the scores."""
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is None or attn_mask.dtype != torch.bool:
        return attn_mask
    return torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(~attn_mask, -math.inf)


def of_other_way(name: str, product: int, names_at: Callable[[int], dict[str, str]]) -> dict[str, str]:
    """Returns the quantizers of an operator of attention, by operand, where they were put at those of the other way.

    Args:
        name: `sdpa`, or `matmul`.
        product: which of the two products a `matmul` is.
        names_at: gives the quantizers by operand: those of a product, or of the one `sdpa`, which is 0.

    Example:
        >>> of_other_way("matmul", 1, lambda _: {"query": "q", "softmax": "s", "value": "v"})
        {'left': 's', 'right': 'v'}
    """
    if name == "sdpa":
        found = {operand: names_at(of).get(side) for operand, (of, side) in PRODUCTS.items()}
    else:
        found = {side: names_at(0).get(operand) for operand, (of, side) in PRODUCTS.items() if of == product}
    return {operand: quantizer for operand, quantizer in found.items() if quantizer is not None}


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call of `F.scaled_dot_product_attention` by name."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    return dict(zip(names, args, strict=False)) | kwargs
