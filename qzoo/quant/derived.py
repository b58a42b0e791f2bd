"""Classes that are derived from a module's own class at run time, and how copies and files of them come about."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

OWN_FORWARD = "own_forward"
"""Where the forward is kept that somebody put on the instance, in front of that of its class."""


class Derived(nn.Module):
    """What is mixed into a module's own class. The module stays the same object, with the same parameters."""

    float_class: type[nn.Module]
    mixin: type[Derived]
    not_copied: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module's own forward: that of its class, or one that was put on the instance before."""
        own = self.__dict__.get(OWN_FORWARD)
        return super().forward(*args, **kwargs) if own is None else own(*args, **kwargs)

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
    if isinstance(module, mixin):
        return
    module.__class__ = derived_class(mixin, type(module))  # type: ignore[arg-type]
    if "forward" in module.__dict__:
        # On the instance it would hide the forward of the subclass.
        module.__dict__[OWN_FORWARD] = module.__dict__.pop("forward")


def underive(module: nn.Module) -> None:
    """Gives a module, in place, its own class and its own forward again."""
    while isinstance(module, Derived):
        module.__class__ = _without(type(module))
    if OWN_FORWARD in module.__dict__:
        module.__dict__["forward"] = module.__dict__.pop(OWN_FORWARD)


def _without(kind: Any) -> Any:
    """Returns the class that a derived one was made of; one that came on top, of a parametrization, stays on top."""
    if "float_class" in vars(kind):
        return kind.float_class
    content = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    if "own_weight" in content:
        content["weight"] = content.pop("own_weight")
    return type(kind.__name__, tuple(map(_without, kind.__bases__)), content)


def float_name(module: nn.Module) -> str:
    """Returns the name of a module's own class, derived or not.

    Example:
        >>> float_name(nn.Linear(1, 1))
        'Linear'
    """
    kind: Any = type(module)
    while issubclass(kind, Derived):
        kind = kind.float_class
    return str(kind.__name__)


def _rebuild(mixin: type[Derived], float_class: type[nn.Module]) -> nn.Module:
    derived: type[nn.Module] = derived_class(mixin, float_class)  # type: ignore[arg-type]
    return derived.__new__(derived)
