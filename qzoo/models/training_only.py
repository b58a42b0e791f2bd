"""Auxiliary classifiers, which only training runs: calibration would never reach a quantizer in one."""

from __future__ import annotations

from torch import nn

AUXILIARY = frozenset({
    "timm.models.inception_v3.InceptionAux",
    "torchvision.models.googlenet.InceptionAux",
    "torchvision.models.inception.InceptionAux",
})  # fmt: skip


def is_for_training_only(model: nn.Module, path: str) -> bool:
    """Whether the layer at a path is part of an auxiliary classifier."""
    names = path.split(".")
    holders = (model.get_submodule(".".join(names[:depth])) for depth in range(1, len(names)))
    # By name: importing timm and torchvision for models of neither would cost seconds.
    return any(f"{c.__module__}.{c.__qualname__}" in AUXILIARY for holder in holders for c in type(holder).__mro__)
