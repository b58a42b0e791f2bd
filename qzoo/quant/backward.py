"""Backward passes on a CPU: where a gradient passes, and whether it may be written over what the forward pass left.

On a CPU the gradient of a large activation costs as much for its fresh memory as for its arithmetic. The quantized
values lie at hand by then, and the layer that read them has computed its gradient already: their memory serves, if
nobody else holds them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qzoo.quant.tracing import is_transformed


def pass_between(
    grad: Tensor, x: Tensor, low: Tensor | float, high: Tensor | float, into: Tensor | None = None
) -> Tensor:
    """Returns `grad` where `low <= x <= high`, and 0 elsewhere.

    Args:
        grad: shape and dtype of `x`.
        x: any float dtype; compared in float32.
        low: a number, or float32 that broadcasts against `x`.
        high: a number, or float32 that broadcasts against `x`.
        into: memory of the same shape, which may be written to and returned, where that saves time.

    Example:
        >>> pass_between(torch.ones(3), torch.tensor([-1.0, 0.5, 2.0]), 0.0, 0.5)
        tensor([0., 1., 0.])
    """
    if not is_plain(grad, x) or not _is_scalar(low, high):
        values = x.float()
        return torch.where((values >= low) & (values <= high), grad, 0.0)
    outside = _just_outside(low, high)
    if into is None or into.dtype != x.dtype:
        return torch.ops.aten.hardtanh_backward(grad, x, *outside)  # type: ignore[no-any-return]
    torch.ops.aten.hardtanh_backward.grad_input(grad, x, *outside, grad_input=into)
    return into


def is_plain(grad: Tensor, x: Tensor) -> bool:
    """Whether the one pass serves: float32 on a CPU, and neither a compiler nor a transform of `torch.func`."""
    plain = x.dtype == grad.dtype == torch.float32 and x.device.type == "cpu"
    return plain and not torch.compiler.is_compiling() and not (is_transformed(grad) or is_transformed(x))


def _is_scalar(low: Tensor | float, high: Tensor | float) -> bool:
    return all(not isinstance(bound, Tensor) or bound.dim() == 0 for bound in (low, high))


def _just_outside(low: Tensor | float, high: Tensor | float) -> tuple[float, float]:
    # The operator leaves out its bounds.
    infinity = np.float32(np.inf)
    return float(np.nextafter(np.float32(low), -infinity)), float(np.nextafter(np.float32(high), infinity))


# Two functions that torch keeps for its own compiler. Without them, nothing is written over.
_KEEPS_GRAPH = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
_HOLDERS = getattr(torch._C, "_storage_Use_Count", None)

OWN_HOLDERS = 3
"""Holders of a tensor that a function saved and reads in its backward pass: autograd, the tensor, its storage."""


def is_last_use(saved: Tensor) -> bool:
    """Returns whether nobody will read a tensor after the backward pass that now runs and has it from autograd.

    False if the graph is kept for a further pass, if gradients of the gradients are wanted, or if anything else refers
    to the memory: another function's saved tensor, a hook that put it aside, a view.

    Args:
        saved: what `ctx.saved_tensors` gave, held by one variable.
    """
    if _KEEPS_GRAPH is None or _HOLDERS is None or torch.compiler.is_compiling():
        return False
    if _KEEPS_GRAPH() or torch.is_grad_enabled():
        return False
    return bool(_HOLDERS(saved.untyped_storage()._cdata) <= OWN_HOLDERS)
