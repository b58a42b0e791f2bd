"""Classes that are derived from a module's own class at run time, and copies of models that have such classes."""

from __future__ import annotations

import copy
import threading
from functools import cache
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves

OWN_FORWARD = "own_forward"
"""Where the forward is kept that somebody put on the instance, in front of that of its class."""


class _Own(threading.local):
    """Which modules run the forward that somebody put on them, on this thread."""

    def __init__(self) -> None:
        self.running: set[int] = set()


_OWN = _Own()


def runs_own_forward(module: nn.Module) -> bool:
    """Whether a forward that was put on the module is running, and now calls the one that it wraps."""
    return OWN_FORWARD in module.__dict__ and id(module) in _OWN.running


class Derived(nn.Module):
    """What is mixed into a module's own class. The module stays the same object, with the same parameters."""

    float_class: type[nn.Module]
    mixin: type[Derived]
    not_copied: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module's own forward: that of its class, or one that was put on the instance before."""
        own = self.__dict__.get(OWN_FORWARD)
        if own is None or runs_own_forward(self):
            return super().forward(*args, **kwargs)
        _OWN.running.add(id(self))
        try:
            return own(*args, **kwargs)
        finally:
            _OWN.running.discard(id(self))

    def __setattr__(self, name: str, value: Any) -> None:
        # On the instance a forward would hide that of the subclass.
        if name == "forward":
            self.__dict__[OWN_FORWARD] = value
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "forward" and OWN_FORWARD in self.__dict__:
            del self.__dict__[OWN_FORWARD]
        else:
            super().__delattr__(name)

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
    module.__class__ = _beneath_parametrizations(type(module), mixin, is_parametrized(module))
    if "forward" in module.__dict__:
        # On the instance it would hide the forward of the subclass.
        module.__dict__[OWN_FORWARD] = module.__dict__.pop("forward")


def _beneath_parametrizations(kind: Any, mixin: type[Derived], parametrized: bool) -> Any:
    """Returns a derived class; that of a parametrization stays on top, where `remove_parametrizations` expects it."""
    if not parametrized:
        return derived_class(mixin, kind)  # type: ignore[arg-type]
    (plain,) = kind.__bases__
    content = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return type(kind.__name__, (derived_class(mixin, plain),), content)  # type: ignore[arg-type]


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
