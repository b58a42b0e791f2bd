"""Going through a large tensor piece by piece, so that all steps on a piece find it in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qzoo.quant.tracing import is_captured, is_transformed

PIECE = 1 << 19
"""Values that pass all steps while they are in the cache."""
LARGE = 1 << 22
"""From this many values on (16 MB), going piece by piece is worth its overhead in a forward pass."""


def in_pieces(x: Tensor, scale: Tensor, large: int | None = None) -> bool:
    """Whether going through `x` piece by piece is the same and faster; a compiler fuses the steps anyway.

    Args:
        x: what is gone through.
        scale: `()`, or it would have to be cut too.
        large: from how many values on it is faster; default `LARGE`.
    """
    if is_captured() or is_transformed(x):
        return False
    if x.dtype != torch.float32 or x.device.type != "cpu" or scale.dim():
        return False
    return (
        x.numel() >= (LARGE if large is None else large)
        and not scale.requires_grad
        and in_memory_order(x).is_contiguous()
    )


def pieces(x: Tensor) -> Sequence[Tensor]:
    """Returns flat views of a dense tensor, one after the other in memory."""
    return in_memory_order(x).view(-1).split(PIECE)  # type: ignore[no-any-return]


def in_memory_order(x: Tensor) -> Tensor:
    """Returns a view whose dimensions stand as they lie in memory."""
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True))
