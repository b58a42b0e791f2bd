"""Moves weights against the error of quantized inputs: ridge regression, in closed form.

A weight `W` is multiplied with `x = x0 + e`, what quantizing made of `x0`. Moved by `D`, it gives `(W + D) x`, which is
closest to `W x0` where

    D = -W E[e x^T] (E[x x^T] + s I)^-1

minimizes `E |(W + D) x - W x0|^2 + s |D|^2`. What is learned of the inputs is so added to the weight before rounding.

Source: Y. Zhong, J. Hu, Y. Huang, Y. Zhang, R. Ji, "ERQ: Error Reduction for Post-Training Quantization of Vision
Transformers" (arXiv 2407.06794), section 4.1, equation 6. The rounding that it refines row by row after that is here
that of GPTQ, see `optimization.rounding`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.closed_form.gptq import WeightGrid, damped_, squared_product
from qzoo.optimization.closed_form.moments import Moments
from qzoo.optimization.closed_form.weight_steps import Solved, change_weights, few_inputs
from qzoo.progress import Progress, silent
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Ridge


def ridge(
    model: nn.Module,
    spec: Ridge,
    batches: Iterable[Any],
    *,
    images: int | None = None,
    progress: Progress = silent,
) -> list[Change]:
    """Moves the weights of a model against the error that quantizing their inputs makes, in place.

    Args:
        model: quantized, with ranges; weights not rounded yet.
        spec: how strong the ridge is.
        batches: inputs of the model, which can be iterated again.
        images: how many images the batches hold, if known.
        progress: shown the batches.

    Returns:
        A change for each weight. Errors are those of its float products with quantized inputs, squared, relative to the
        products with what the inputs were before.

    Raises:
        NotCalibratedError: a quantizer has no range.
    """

    def solve(weight: Tensor, grid: WeightGrid, moments: Moments) -> Solved:
        moved = weight + ridge_step(weight, moments.hessian, moments.error_across, spec.strength)
        before, after = (_error(one - weight, weight, moments) for one in (weight, moved))
        exact = moments.hessian - moments.error_across - moments.error_across.transpose(1, 2) + moments.error
        return Solved(
            moved, before, after, float(squared_product(weight, exact).sum()), few_inputs(moments, weight.shape[2])
        )

    return change_weights(
        model, batches, solve, what="moving weights", otherwise="not moved", errors=True, images=images,
        progress=progress,
    )  # fmt: skip


def ridge_step(weight: Tensor, hessian: Tensor, error_across: Tensor, strength: float) -> Tensor:
    """Returns by how much weights move.

    Args:
        weight: float32 `(groups, rows, columns)`.
        hessian: float32 `(groups, columns, columns)`, the mean of `x x^T`.
        error_across: float32 `(groups, columns, columns)`, the mean of `e x^T`.
        strength: the weight of the ridge, relative to the mean of the Hessian's diagonal.

    Raises:
        ValueError: the Hessian is singular even so.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> ridge_step(one, 2 * one, one, 1.0)
        tensor([[[-0.2500]]])
    """
    lower, failed = torch.linalg.cholesky_ex(damped_(hessian.clone(), strength))
    if bool(failed.any()):
        raise ValueError(f"{strength:g} is too weak a ridge for so few inputs")
    wanted = -(weight @ error_across).transpose(1, 2)
    return torch.cholesky_solve(wanted, lower).transpose(1, 2)


def _error(move: Tensor, weight: Tensor, moments: Moments) -> float:
    """Returns the mean of `|(W + D) x - W x0|^2`, which is `|D x + W e|^2`."""
    across = 2 * ((weight @ moments.error_across) * move).sum()
    return float(squared_product(move, moments.hessian).sum() + across + squared_product(weight, moments.error).sum())
