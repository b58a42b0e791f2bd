"""The dimensions that a range spans, from those along which ranges differ."""

from __future__ import annotations

from torch import Tensor


def other_axes(x: Tensor, axis: int | tuple[int, ...] | list[int] | None) -> tuple[int, ...]:
    """Returns the dimensions of a tensor that are not the axis of a descriptor.

    Example:
        >>> import torch
        >>> other_axes(torch.zeros(4, 3, 2, 2), -3)
        (0, 2, 3)
    """
    if axis is None:
        return tuple(range(x.dim()))
    kept = {dim % max(x.dim(), 1) for dim in ((axis,) if isinstance(axis, int) else axis)}
    return tuple(dim for dim in range(x.dim()) if dim not in kept)
