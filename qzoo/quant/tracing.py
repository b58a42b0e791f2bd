"""What follows a model while it runs to make a graph of it, and how our modules stand in that graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
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
