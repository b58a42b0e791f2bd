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

from torch import Tensor, nn

from qzoo.optimization.closed_form.gptq import WeightGrid
from qzoo.optimization.closed_form.least_squares import ridge_step
from qzoo.optimization.closed_form.moments import Moments, Products
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
        assert isinstance(moments, Products)
        fit = moments.fit()
        step = ridge_step(fit, spec.strength)
        before, after, product = (float(one.sum()) for one in (fit.error, fit.of_move(step), fit.product))
        return Solved(weight + step, before, after, product, few_inputs(moments, weight.shape[2]))

    return change_weights(
        model, batches, solve, what="moving weights", otherwise="not moved", products=True, images=images,
        progress=progress,
    )  # fmt: skip
