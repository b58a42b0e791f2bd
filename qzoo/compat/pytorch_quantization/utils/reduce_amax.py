"""The largest magnitude along dimensions, as NumPy names them."""

from __future__ import annotations

from torch import Tensor


def reduce_amax(input: Tensor, axis: int | tuple[int, ...] | list[int] | None = None, keepdims: bool = True) -> Tensor:
    """Returns the largest magnitudes of a tensor; without a gradient.

    Args:
        input: any shape; not changed.
        axis: the dimensions that disappear; None: all of them, which gives shape `()`.
        keepdims: they stay, with size 1; a single value has shape `()` nevertheless, unless `axis` is one integer.

    Raises:
        ValueError: more dimensions are given than the tensor has.

    Source: pytorch-quantization 2.2.1, `utils.reduce_amax`.

    Example:
        >>> import torch
        >>> reduce_amax(torch.tensor([[1.0, -3.0], [0.5, 0.0]]), axis=1)
        tensor([[3.0000],
                [0.5000]])
    """
    magnitude = input.detach().abs()
    if axis is None:
        return magnitude.max()
    if isinstance(axis, int):
        return magnitude.amax(axis, keepdim=keepdims)
    if len(axis) > input.dim():
        raise ValueError(f"Cannot reduce more axes than tensor's dim: {tuple(axis)} of shape {tuple(input.shape)}.")
    if not axis:
        return magnitude
    reduced = magnitude.amax(tuple(axis), keepdim=True)
    # As the original does it: every dimension of size 1 goes, not only those that were reduced.
    return reduced.squeeze() if not keepdims or reduced.numel() == 1 else reduced
