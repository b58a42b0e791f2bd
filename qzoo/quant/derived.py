"""Classes that are derived from a module's own class at run time, and how copies and files of them come about."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


class Derived(nn.Module):
    """What is mixed into a module's own class. The module stays the same object, with the same parameters."""

    float_class: type[nn.Module]
    mixin: type[Derived]
    not_copied: tuple[str, ...] = ()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class was made at run time, so a copy or a file is told how to make it again.
        state = {key: value for key, value in self.__dict__.items() if key not in self.not_copied}
        return _rebuild, (self.mixin, self.float_class), state


@cache
def derived_class(mixin: type[Derived], float_class: type[nn.Module]) -> type[nn.Module]:
    """Returns the subclass of a module's class that the mixin comes before: `Quant` + its name."""
    name = f"Quant{float_class.__name__}"
    content = {"float_class": float_class, "mixin": mixin, "__module__": mixin.__module__}
    return type(name, (mixin, float_class), content)


def derive(module: nn.Module, mixin: type[Derived]) -> None:
    """Gives a module, in place, the subclass of its own class; one that has it already stays as it is."""
    if not isinstance(module, mixin):
        module.__class__ = derived_class(mixin, type(module))  # type: ignore[arg-type]


def _rebuild(mixin: type[Derived], float_class: type[nn.Module]) -> nn.Module:
    derived: type[nn.Module] = derived_class(mixin, float_class)  # type: ignore[arg-type]
    return derived.__new__(derived)
