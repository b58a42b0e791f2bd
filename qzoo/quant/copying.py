"""Copying a model as it is: with the mode that each module is in, and whatever tensors it holds besides parameters."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

M = TypeVar("M", bound=nn.Module)


def copy_model(model: M) -> M:
    """Returns a deep copy of a model.

    Tensors that were computed from parameters, as pruning and the older weight norm leave them on a module until its
    next forward, are copied by value. A module whose copy comes out in another mode, as `torch.fx` graphs do, is put
    into the mode of the original.

    Args:
        model: not changed.

    Example:
        >>> copy_model(nn.Sequential(nn.Linear(2, 2)).eval()).training
        False
    """
    computed = [value for module in model.modules() for value in tree_leaves(vars(module)) if _is_computed(value)]
    copied = copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})
    for original, twin in zip(model.modules(), copied.modules(), strict=True):
        if twin.training != original.training:
            _put_into_mode(twin, original.training)
    return copied


def _is_computed(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_leaf


def _put_into_mode(module: nn.Module, training: bool) -> None:
    modes = {child: child.training for child in module.modules() if child is not module}
    # A graph of its own for each mode, as torchvision's feature extractors have, is chosen by `train`.
    module.train(training)
    for child, mode in modes.items():
        child.training = mode
