"""What follows a model while it runs: tracers and compilers, to make a graph of it; transforms of `torch.func`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx import Proxy


def is_traced() -> bool:
    """Whether `torch.jit.trace` records what is computed now."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def is_captured() -> bool:
    """Whether a compiler or `torch.jit.trace` records what is computed now, so that no value can be looked at."""
    return torch.compiler.is_compiling() or is_traced()


def fx_node(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Proxy | None:
    """Returns the node that stands for a call while `torch.fx.symbolic_trace` follows a model; else None.

    What quantizes can't be followed: it looks at values. So it is a leaf, like the layers of torch.
    """
    given = next((value for value in (*args, *kwargs.values()) if isinstance(value, Proxy)), None)
    if given is None or getattr(given.tracer, "root", module) is module:
        return None
    return given.tracer.create_proxy("call_module", given.tracer.path_of_module(module), args, kwargs)  # type: ignore[attr-defined]


# torch has no public name for these. Without one, what is transformed is an error of torch, as it is of any function
# of one's own; nothing else changes.
_TRANSFORMS_ARE_ACTIVE = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_IS_BATCHED = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda tensor: False)
"""Whether a tensor is what torch.autograd hands to a backward pass that computes many gradients at once."""


_BACKWARD = getattr(torch._C, "_current_graph_task_id", lambda: -1)
"""The number of the backward pass that runs; -1 where none does."""


def is_in_backward() -> bool:
    """Whether a backward pass runs, which computes a forward only to have what a checkpoint did not keep.

    Example:
        >>> is_in_backward()
        False
    """
    return bool(_BACKWARD() != -1)


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
    return _TRANSFORMS_ARE_ACTIVE() or _has_tangent(tensor) or _IS_BATCHED(tensor)


def has_values(tensor: Tensor) -> bool:
    """Whether looking at the values costs little and is possible: on a CPU, none of a batch of models, no fake one."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu"
    return plain and not is_captured() and not is_transformed(tensor)


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None
