"""What is known of the inputs of a weight, and of its products with them: sums over all places that were seen."""

from __future__ import annotations

import torch
from torch import Tensor

from qzoo.optimization.closed_form.least_squares import Fit

BLOCKS, SMALLEST_BLOCK = 6, 256
"""Into how many blocks of rows a symmetric matrix is put, of which the upper half is computed; their least size."""


class Moments:
    """The second moments of the inputs `x` of a weight.

    Args:
        missing: what it says where nothing was added.

    Attributes:
        places: how many places were seen.
    """

    def __init__(self, missing: str = "the images never reach it") -> None:
        self.places, self._missing = 0, missing
        self._squares: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Adds inputs `(groups, columns, places)`."""
        x, columns = x.float(), x.shape[1]
        if self._squares is None:
            self._squares = x.new_zeros(len(x), columns, columns)
        size = max(SMALLEST_BLOCK, -(-columns // BLOCKS))
        for start in range(0, columns, size):
            # What lies right of the diagonal is enough.
            block = self._squares[:, start : start + size, start:]
            block.baddbmm_(x[:, start : start + size], x[:, start:].transpose(1, 2))
        self.places += x.shape[2]

    def hessian(self) -> Tensor:
        """Returns the mean of `x x^T`: half of the Hessian of a row's squared error, `(groups, columns, columns)`.

        Raises:
            ValueError: nothing was added, or the inputs hold NaN or Inf.
        """
        if self._squares is None:
            raise ValueError(self._missing)
        mean = self._squares.triu().div_(self.places)
        mean.add_(mean.triu(1).transpose(1, 2))
        if not bool(mean.sum().isfinite()):
            raise ValueError("its inputs hold NaN or Inf")
        return mean


class Products(Moments):
    """The moments of inputs, and of `r = W x - y`: what the products of a weight are off what they are to be.

    Args:
        weight: `W`, float32 `(groups, rows, columns)`.
        missing: as for `Moments`.
    """

    def __init__(self, weight: Tensor, missing: str = "the images never reach it") -> None:
        super().__init__(missing)
        self.weight = weight
        self._mean = weight.new_zeros(len(weight), weight.shape[2], 1)
        self._across = torch.zeros_like(weight)
        self._off, self._squared, self._wanted, self._wanted_squared = weight.new_zeros(4, *weight.shape[:2], 1)

    def add_products(self, x: Tensor, wanted: Tensor) -> None:
        """Adds inputs `(groups, columns, places)`, and what their products are to be, `(groups, rows, places)`."""
        x, wanted = x.float(), wanted.float()
        off = self.weight @ x - wanted
        self.add(x)
        self._across.baddbmm_(off, x.transpose(1, 2))
        for total, one in (
            (self._mean, x), (self._off, off), (self._squared, off.square()), (self._wanted, wanted),
            (self._wanted_squared, wanted.square()),
        ):  # fmt: skip
            total.add_(one.sum(2, keepdim=True))

    def join(self, other: Products) -> None:
        """Adds what the other ones have seen."""
        assert self._squares is not None
        assert other._squares is not None
        self.places += other.places
        self._squares += other._squares
        for name in ("_mean", "_across", "_off", "_squared", "_wanted", "_wanted_squared"):
            getattr(self, name).add_(getattr(other, name))

    def fit(self, *, about_mean: bool = False) -> Fit:
        """Returns how near products are to what they are to be.

        Args:
            about_mean: all about their means: a bias takes the mean of what products are off.

        Raises:
            ValueError: nothing was added, or it holds NaN or Inf.
        """
        hessian, count = self.hessian(), self.places
        across, error, product = self._across / count, self._squared / count, self._wanted_squared / count
        if about_mean:
            mean, off = self._mean / count, self._off / count
            hessian -= mean @ mean.transpose(1, 2)
            across -= off @ mean.transpose(1, 2)
            error, product = error - off.square(), product - (self._wanted / count).square()
        if not bool((across.sum() + error.sum()).isfinite()):
            raise ValueError("its products hold NaN or Inf")
        return Fit(hessian, across, error.squeeze(2), product.squeeze(2))
