"""Where a gradient passes: between two bounds. One pass over memory on a CPU."""

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
        high: likewise.
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
