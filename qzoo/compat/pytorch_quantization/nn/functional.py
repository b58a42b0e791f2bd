"""Clipping to bounds that can be learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ClipFunction(torch.autograd.Function):
    """Clips to two tensors; the gradient of what is clipped goes to the bound that clipped it.

    The gradient of the input passes strictly between the bounds.

    Source: J. Choi et al. 2018, "PACT" (arXiv 1805.06085); pytorch-quantization 2.2.1, `nn.functional.clip`.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, clip_value_min: Tensor, clip_value_max: Tensor) -> Tensor:
        """Returns the input between the bounds; they broadcast against it."""
        ctx.save_for_backward(input, clip_value_min, clip_value_max)
        return torch.maximum(torch.minimum(input, clip_value_max), clip_value_min)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Returns the gradients of the input and of both bounds.

        Raises:
            ValueError: a bound is learned that is no single number.
        """
        x, low, high = ctx.saved_tensors
        above, below = x > low, x < high
        of_bounds = [
            _of_bound(grad, ~inside, bound) if wanted else None
            for inside, bound, wanted in zip((above, below), (low, high), ctx.needs_input_grad[1:], strict=True)
        ]
        return torch.where(above & below, grad, 0.0), of_bounds[0], of_bounds[1]


clip = ClipFunction.apply


def _of_bound(grad: Tensor, clipped: Tensor, bound: Tensor) -> Tensor:
    if bound.numel() != 1:
        raise ValueError(f"Learnable min/max can only be scalar, got size {tuple(bound.shape)}.")
    return torch.where(clipped, grad, 0.0).sum().to(bound.dtype).reshape(bound.shape)
