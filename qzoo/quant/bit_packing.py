"""Small whole numbers in few bits: 1, 2 or 4 of them share each byte, or none does."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Width = Literal[0, 1, 2, 4, 8]
WIDTHS: tuple[Width, ...] = (0, 1, 2, 4, 8)
"""Bits that a number may take; of 0 bits there is nothing to store."""


def width_of(largest: int) -> Width | None:
    """Returns the fewest bits that hold all numbers from 0 to the largest; None where a byte does not.

    Example:
        >>> [width_of(largest) for largest in (0, 1, 3, 4, 255, 256)]
        [0, 1, 2, 4, 8, None]
    """
    return next((width for width in WIDTHS if largest < 2**width), None)


def packed_length(count: int, width: int) -> int:
    """Returns how many bytes so many numbers take."""
    return math.ceil(count * width / 8)


def pack_bits(codes: Tensor, width: int) -> Tensor:
    """Returns numbers packed into bytes, the first of them in the lowest bits.

    Args:
        codes: whole numbers, any shape and dtype; from 0 to `2**width - 1`.
        width: one of `WIDTHS`.

    Returns:
        uint8, `(packed_length(codes.numel(), width),)`.

    Example:
        >>> pack_bits(torch.tensor([1, 0, 1]), 1)
        tensor([5], dtype=torch.uint8)
    """
    if width == 0:
        return torch.zeros(0, dtype=torch.uint8, device=codes.device)
    share = 8 // width
    flat = codes.flatten().to(torch.uint8)
    parts: Tensor = nn.functional.pad(flat, (0, -len(flat) % share)).view(-1, share)
    return (parts << _shifts(share, codes)).sum(1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, width: int, count: int) -> Tensor:
    """Returns the numbers that were packed, uint8 `(count,)`.

    Example:
        >>> unpack_bits(torch.tensor([5], dtype=torch.uint8), 1, 3)
        tensor([1, 0, 1], dtype=torch.uint8)
    """
    if width == 0:
        return torch.zeros(count, dtype=torch.uint8, device=packed.device)
    share = 8 // width
    codes: Tensor = (packed.unsqueeze(1) >> _shifts(share, packed)) & (2**width - 1)
    return codes.flatten()[:count]


def _shifts(share: int, like: Tensor) -> Tensor:
    return torch.arange(share, dtype=torch.uint8, device=like.device) * (8 // share)
