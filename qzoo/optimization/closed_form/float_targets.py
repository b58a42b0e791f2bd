"""The weight whose products with what a quantized model gives it are nearest to those of the float model.

A weight `W` is given `x`, where the float model's is given `x0 = x - e`. With second moments about the means, if a bias
takes the mean error, else about 0,

    W' = W - W E[e x^T] (E[x x^T] + s I)^-1          minimizes  E |W' x - W x0|^2 + s |W' - W|^2

and any other weight `Q` is worse by `(Q - W') (E[x x^T] + s I) (Q - W')^T`: so `W'` is what is rounded then, by the
same moments. How strong a ridge `s` is best is told by images that `W'` was not computed from.

Source: Y. Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration"
(arXiv 2504.02692), section 3, which does both in one loop over columns; the ridge is that of ERQ (arXiv 2407.06794).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from qzoo.optimization.closed_form.gptq import squared_product
from qzoo.optimization.closed_form.moments import Moments
from qzoo.optimization.closed_form.ridge import ridge_step

STRENGTHS = (0.003, 0.03, 0.3, 3.0)
"""Ridges that are tried, relative to the mean of the diagonal of what is solved."""


class Fit(NamedTuple):
    """What tells how near products are to those of the float model; each `(groups, columns, columns)`.

    Attributes:
        hessian: of inputs, `E[x x^T]`.
        across: of their error and them, `E[e x^T]`.
        error: of their error, `E[e e^T]`.
    """

    hessian: Tensor
    across: Tensor
    error: Tensor

    def of_move(self, weight: Tensor, move: Tensor) -> Tensor:
        """Returns the squared error of the products of `weight + move`, of each row, `(groups, rows)`."""
        across = ((weight @ self.across) * move).sum(2)
        return squared_product(move, self.hessian) + 2 * across + squared_product(weight, self.error)

    def of_product(self, weight: Tensor) -> float:
        """Returns the squared product of a weight with the inputs of the float model, of all rows together."""
        exact = self.hessian - self.across - self.across.transpose(1, 2) + self.error
        return float(squared_product(weight, exact).sum())


def fit(moments: Moments, about_mean: bool) -> Fit:
    """Returns the fit of moments with their errors.

    Args:
        moments: of inputs and of their errors.
        about_mean: whether a bias takes the mean error of the products.

    Raises:
        ValueError: nothing was added to the moments, or they are not finite.
    """
    found = Fit(moments.hessian, moments.error_across, moments.error)
    if not about_mean:
        return found
    x, e = moments.mean, moments.error_mean
    means = (x @ x.transpose(1, 2), e @ x.transpose(1, 2), e @ e.transpose(1, 2))
    return Fit(*(one - mean for one, mean in zip(found, means, strict=True)))


def best_strength(weight: Tensor, halves: tuple[Fit, Fit]) -> float:
    """Returns the strength of the ridge with which a weight, moved by one half of the images, serves the other best.

    Args:
        weight: float32 `(groups, rows, columns)`.
        halves: of the one, and of the other.

    Returns:
        One of `STRENGTHS`, relative to the mean of the Hessian's diagonal; Inf where no move serves the other half.
    """
    first, second = halves
    moves = {strength: move(weight, first, strength) for strength in (*STRENGTHS, math.inf)}
    errors = {strength: float(second.of_move(weight, one).sum()) for strength, one in moves.items()}
    return min(errors, key=errors.__getitem__)


def move(weight: Tensor, by: Fit, strength: float) -> Tensor:
    """Returns by how much a weight moves: `W' - W`; 0 with an infinite strength, or one too weak for so few inputs."""
    try:
        return ridge_step(weight, by.hessian, by.across, strength) if math.isfinite(strength) else 0 * weight
    except ValueError:
        return 0 * weight
