"""Tensors that a transform of `torch.func`, or forward-mode differentiation, follows: one may stand for many."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

# What torch.autograd hands to a backward pass that computes many gradients at once.
_IS_BATCHED = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda tensor: False)


def is_transformed(tensor: Tensor) -> bool:
    """Whether `vmap`, `grad`, `jvp` or the like is at work, which no function of our own can serve.

    While it is, that holds of every tensor, also of a parameter that it does not follow.

    Example:
        >>> is_transformed(torch.ones(2))
        False
        >>> seen = []
        >>> torch.func.vmap(lambda x: seen.append(is_transformed(x)) or x)(torch.ones(2))
        tensor([1., 1.])
        >>> seen
        [True]
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or _has_tangent(tensor) or _IS_BATCHED(tensor)


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None
