"""Ranges of a transposed convolution with groups, each of which has output channels of its own.

Its weight is `(in, out / groups, ...)`, with the groups one after the other along the first axis, so that no range for
each output channel broadcasts against it. Such a range has a dimension more, `(groups, 1, out / groups, 1, 1)`: it
broadcasts against the weight with its groups apart, `(groups, in / groups, out / groups, ...)`. So a channel has one
range however many inputs it has, learned ones too.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

SHARED_BY_GROUPS = (
    "It is one for all groups of a transposed convolution, as older versions of qzoo made them; each output channel "
    "has a range of its own now. Calibrate again."
)


def is_shared_by_groups(given: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether ranges of a shape are those of one group where each group has its own, as `SHARED_BY_GROUPS` tells.

    Example:
        >>> is_shared_by_groups((1, 3, 1, 1), (2, 1, 3, 1, 1)), is_shared_by_groups((6, 1, 1, 1), (8, 1, 1, 1))
        (True, False)
    """
    return len(wanted) > 3 and tuple(given) == tuple(wanted[1:])


def along_weight(amax: Tensor, x: Tensor) -> Tensor:
    """Returns ranges that broadcast against `x`: themselves, or those of a group for each of its inputs.

    Args:
        amax: any, also `(groups, 1, out / groups, ...)` for a weight of one dimension less.
        x: what is quantized.

    Example:
        >>> import torch
        >>> along_weight(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), torch.zeros(4, 1, 5)).flatten()
        tensor([1., 1., 2., 2.])
    """
    if x.dim() < 3 or amax.dim() != x.dim() + 1:
        return amax
    return amax.repeat_interleave(len(x) // len(amax), 0).squeeze(1)


def ungrouped_by_output(amax: Tensor, wanted: Sequence[int]) -> Tensor:
    """Returns ranges in the shape `(groups, 1, out / groups, ...)`, if they are those that `along_weight` spread.

    Args:
        amax: any; `(in, out / groups, 1, ...)` with equal values inside a group is brought back.
        wanted: the shape.

    Example:
        >>> import torch
        >>> ungrouped_by_output(torch.tensor([1.0, 1.0, 2.0, 2.0]).view(4, 1, 1, 1), (2, 1, 1, 1, 1)).flatten()
        tensor([1., 2.])
    """
    if len(wanted) != amax.dim() + 1 or amax.shape[1:] != tuple(wanted[2:]) or len(amax) % wanted[0]:
        return amax
    apart = amax.unflatten(0, (wanted[0], -1))
    return apart[:, :1] if bool((apart == apart[:, :1]).all()) else amax
