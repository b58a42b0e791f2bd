"""The registry of qzoo's own architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from qzoo.errors import UnknownNameError, did_you_mean, shown

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register(name: str, builder: Callable[..., nn.Module]) -> None:
    """Adds an architecture.

    Raises:
        ValueError: the name is taken.
    """
    if name in _BUILDERS:
        raise ValueError(f"the architecture '{name}' is registered already")
    _BUILDERS[name] = builder


def names() -> list[str]:
    """Returns the names of all architectures, sorted."""
    return sorted(_BUILDERS)


def create(name: str, **keywords: Any) -> nn.Module:
    """Returns an architecture with random weights; `keywords` go to its constructor (`num_classes`, `in_chans`).

    Raises:
        UnknownNameError: with the nearest name.

    Example:
        >>> sum(p.numel() for p in create("resnet20_cifar10").parameters())
        269722
    """
    if name not in _BUILDERS:
        advice = did_you_mean(name, _BUILDERS)
        raise UnknownNameError(f"qzoo has no architecture '{shown(name)}'. {advice}", field=("base", "architecture"))
    return _BUILDERS[name](**keywords)
