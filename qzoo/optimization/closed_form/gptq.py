"""GPTQ: weights rounded column by column, the columns that are left making up for the error of those that are done.

Of a row `w` of a weight, inputs `x` and their second moments `H`, rounding costs `(w - q) H (w - q)^T`. When column `j`
is rounded, what is left costs least if the columns after it move by

    w[k] -= (w[j] - q[j]) * U[j, k] / U[j, j]        U^T U = H^-1, U upper triangular

Source: E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers" (arXiv 2210.17323), sections 3.2 and 3.3, equation 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.fake_quant import Grid, fake_quantize

MOST_DAMPING = 1e4
"""Damping beyond which a matrix is not one of second moments."""


class WeightGrid(NamedTuple):
    """The grid of each value of a weight in matrix form.

    Attributes:
        amax: the ranges, broadcastable to `(groups, rows, columns)`.
        on: the grid.
        zero_point: its zero points, shape of `amax`; None: 0.
    """

    amax: Tensor
    on: Grid
    zero_point: Tensor | None = None

    def rounded(self, values: Tensor) -> Tensor:
        """Returns the nearest values of the grid."""
        return fake_quantize(values, self.amax, self.on, self.zero_point)

    def ordered(self, order: Tensor) -> WeightGrid:
        """Returns that of the columns in another order, `(groups, columns)`."""
        return self._of_columns(lambda ranges: _columns(ranges, order))

    def part(self, columns: slice) -> WeightGrid:
        """Returns that of some columns."""
        return self._of_columns(lambda ranges: ranges[..., columns])

    def _of_columns(self, taken: Callable[[Tensor], Tensor]) -> WeightGrid:
        if self.amax.shape[-1:] in ((), (1,)):
            return self
        zero = None if self.zero_point is None else taken(self.zero_point)
        return self._replace(amax=taken(self.amax), zero_point=zero)


class Rounded(NamedTuple):
    """A rounded weight.

    Attributes:
        values: float32 `(groups, rows, columns)`, on the grid.
        damping: what was added to the diagonal, relative to its mean: more than asked for where that did not suffice.
    """

    values: Tensor
    damping: float


def gptq(
    weight: Tensor,
    hessian: Tensor,
    grid: WeightGrid,
    *,
    damping: float = 0.01,
    block: int = 128,
    order: Literal["diagonal", "given"] = "diagonal",
) -> Rounded:
    """Returns a weight rounded so that its products with the inputs change little.

    A column whose inputs are all 0 is rounded to nearest, and moves no other.

    Args:
        weight: float32 `(groups, rows, columns)`; not changed.
        hessian: float32 `(groups, columns, columns)`, the second moments of the inputs, times any factor.
        grid: what it is rounded to.
        damping: what is added to the diagonal of the Hessian, relative to its mean.
        block: how many columns are rounded before the rest is corrected for all of them.
        order: columns of large diagonal first, or as they lie.

    Raises:
        ValueError: the Hessian holds NaN or Inf.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> weight, hessian = torch.tensor([[[0.4, 0.4]]]), torch.tensor([[[1.0, 0.99], [0.99, 1.0]]])
        >>> gptq(weight, hessian, WeightGrid(torch.tensor(1.0), grid(bits=2))).values
        tensor([[[0., 1.]]])
    """
    if not bool(hessian.isfinite().all()):
        raise ValueError("the Hessian holds NaN or Inf")
    weight = weight.float()
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    by = diagonal.argsort(dim=1, descending=True, stable=True)
    if order == "given":
        by = torch.arange(weight.shape[2], device=weight.device).expand_as(by)
    backwards = by.flip(1)
    upper, damping = _inverse_factor(_columns(_columns(hessian, backwards).transpose(1, 2), backwards), damping)
    values = _rounded(_columns(weight, by), upper, grid.ordered(by), block)
    return Rounded(_columns(values, by.argsort(dim=1)), damping)


def relative_error(weight: Tensor, rounded: Tensor, hessian: Tensor) -> Tensor:
    """Returns how much of each row's product rounding takes away: squared error by squared product, `(groups, rows)`.

    Both are sums, so that the error of several rows together is the sum of the one by that of the other; see
    `squared_product`.
    """
    return squared_product(weight - rounded, hessian) / squared_product(weight, hessian).clamp_(min=1e-30)


def squared_product(weight: Tensor, hessian: Tensor) -> Tensor:
    """Returns the mean square of a weight's product with its inputs, of each row: `w H w^T`, `(groups, rows)`."""
    return ((weight @ hessian) * weight).sum(2).clamp_(min=0)


def _columns(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(2, order.unsqueeze(1).expand(-1, values.shape[1], -1))


def _rounded(weight: Tensor, upper: Tensor, grid: WeightGrid, block: int) -> Tensor:
    """Rounds columns in order; `weight` is written to, and becomes what is returned."""
    columns = weight.shape[2]
    for start in range(0, columns, block):
        end = min(start + block, columns)
        errors = torch.empty_like(weight[:, :, start:end])
        own, factor = weight[:, :, start:end], upper[:, start:end, start:end]
        for place in range(end - start):
            column = slice(place, place + 1)
            rounded = grid.part(slice(start + place, start + place + 1)).rounded(own[:, :, column])
            error = (own[:, :, column] - rounded) / factor[:, column, column]
            own[:, :, place + 1 :].baddbmm_(error, factor[:, column, place + 1 :], alpha=-1)
            own[:, :, column], errors[:, :, column] = rounded, error
        weight[:, :, end:].baddbmm_(errors, upper[:, start:end, end:], alpha=-1)
    return weight


def damped_(hessian: Tensor, damping: float) -> Tensor:
    """Adds to the diagonal of a Hessian, in place and relative to its mean; 1 where inputs are all 0."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal.add_(torch.where(diagonal > 0, damping * diagonal.mean(1, keepdim=True), 1.0))
    return hessian


def _inverse_factor(backwards: Tensor, damping: float) -> tuple[Tensor, float]:
    """Returns the upper triangular `U` with `U^T U` the damped inverse, and the damping with which there is one.

    With `V V^T` the damped Hessian, `V` upper triangular, it is the inverse of `V`: the Cholesky factor of the Hessian
    with rows and columns from last to first, turned back.

    Args:
        backwards: the Hessian from last to first; it is written to, as it is large.
        damping: what is added to its diagonal, relative to its mean, ten times as much until it has a factor.
    """
    added = 0.0
    while damping < MOST_DAMPING:
        lower, failed = torch.linalg.cholesky_ex(damped_(backwards, damping - added))
        if not bool(failed.any()):
            # In the order in memory in which it is solved in place: for thousands of columns each copy counts.
            inverse = torch.eye(lower.shape[1], device=lower.device).expand_as(lower).contiguous().mT
            torch.linalg.solve_triangular(lower, inverse, upper=False, out=inverse)
            del lower
            return inverse.flip(1, 2), damping
        added, damping = damping, damping * 10
    raise ValueError("the Hessian is that of no inputs")
