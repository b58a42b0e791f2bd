"""How near the products of a weight are to what they are to be, and by how much it moves to bring them nearer.

Where a weight `W` is given `x`, and its products are `r = W x - y` off their targets `y`, those of a weight moved by
`D` are `D x + r` off. The mean of their squares is

    E |D x + r|^2 = D E[x x^T] D^T + 2 E[r x^T] D^T + E[r^2]                for each row

which is least, with a ridge of strength `s`, for `D = -E[r x^T] (E[x x^T] + s I)^-1`.

Source: ridge regression, A. E. Hoerl, R. W. Kennard 1970, "Ridge Regression: Biased Estimation for Nonorthogonal
Problems".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qzoo.optimization.closed_form.gptq import damped_, squared_product


class Fit(NamedTuple):
    """What tells how near products are to their targets.

    Attributes:
        hessian: `E[x x^T]`, float32 `(groups, columns, columns)`.
        across: `E[r x^T]`, float32 `(groups, rows, columns)`.
        error: `E[r^2]`, float32 `(groups, rows)`.
        product: `E[y^2]`, of the same shape: what the error is relative to.
    """

    hessian: Tensor
    across: Tensor
    error: Tensor
    product: Tensor

    def of_move(self, move: Tensor) -> Tensor:
        """Returns the mean square of what products are off once the weight has moved, of each row, `(groups, rows)`."""
        return squared_product(move, self.hessian) + 2 * (self.across * move).sum(2) + self.error


def ridge_step(fit: Fit, strength: float) -> Tensor:
    """Returns by how much a weight moves, `(groups, rows, columns)`.

    Args:
        fit: of its products.
        strength: the weight of the ridge, relative to the mean of the Hessian's diagonal.

    Raises:
        ValueError: the Hessian is singular even so.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> ridge_step(Fit(2 * one, one, one[0], one[0]), 1.0)
        tensor([[[-0.2500]]])
    """
    lower, failed = torch.linalg.cholesky_ex(damped_(fit.hessian.clone(), strength))
    if bool(failed.any()):
        raise ValueError(f"{strength:g} is too weak a ridge for so few inputs")
    return -torch.cholesky_solve(fit.across.transpose(1, 2), lower).transpose(1, 2)
