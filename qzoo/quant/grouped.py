"""Ranges of a transposed convolution with groups, each of which has output channels of its own.

Its weight is `(in, out / groups, ...)`, with the groups one after the other along the first axis, so that no range for
each output channel broadcasts against it. Such a range has a dimension more, `(groups, 1, out / groups, 1, 1)`: it
broadcasts against the weight with its groups apart, `(groups, in / groups, out / groups, ...)`. So a channel has one
range however many inputs it has, learned ones too.
"""

from __future__ import annotations

from torch import Tensor


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
