"""Where a gradient passes: between two bounds. One pass over memory on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pass_between(grad: Tensor, x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Returns `grad` where `low <= x <= high`, and 0 elsewhere.

    Args:
        grad: shape and dtype of `x`.
        x: any float dtype; compared in float32.
        low: a number, or float32 that broadcasts against `x`.
        high: likewise.

    Example:
        >>> pass_between(torch.ones(3), torch.tensor([-1.0, 0.5, 2.0]), 0.0, 0.5)
        tensor([0., 1., 0.])
    """
    if _is_plain(grad, x, low, high):
        return torch.ops.aten.hardtanh_backward(grad, x, *_just_outside(low, high))  # type: ignore[no-any-return]
    values = x.float()
    return torch.where((values >= low) & (values <= high), grad, 0.0)


def pass_between_into(target: Tensor, grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Writes what `pass_between` returns into `target`, float32 on the CPU like the others; returns it."""
    outside = _just_outside(low, high)
    torch.ops.aten.hardtanh_backward.grad_input(grad, x, *outside, grad_input=target)
    return target


def _is_plain(grad: Tensor, x: Tensor, low: Tensor | float, high: Tensor | float) -> bool:
    scalar = all(not isinstance(bound, Tensor) or bound.dim() == 0 for bound in (low, high))
    plain = x.dtype == grad.dtype == torch.float32 and x.device.type == "cpu"
    return scalar and plain and not torch.compiler.is_compiling()


def _just_outside(low: Tensor | float, high: Tensor | float) -> tuple[float, float]:
    # The operator leaves out its bounds.
    infinity = np.float32(np.inf)
    return float(np.nextafter(np.float32(low), -infinity)), float(np.nextafter(np.float32(high), infinity))
