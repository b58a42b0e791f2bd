"""Means and second moments of the inputs of a weight, and of their error: what weights are computed from."""

from __future__ import annotations

from torch import Tensor

BLOCKS, SMALLEST_BLOCK = 6, 256
"""Into how many blocks of rows a symmetric matrix is put, of which the upper half is computed; their least size."""


class Moments:
    """Means over all places of inputs `x`, and of `e`, their error of being quantized.

    Attributes:
        places: how many places were seen.
    """

    def __init__(self) -> None:
        self.places = 0
        self._found: dict[str, Tensor] = {}

    def add(self, x: Tensor, exact: Tensor | None = None) -> None:
        """Adds inputs `(groups, columns, places)`, and what they were before they were quantized."""
        x = x.float()
        self._add("hessian", x, x)
        self._add_mean("mean", x)
        if exact is not None:
            error = x - exact.float()
            self._add("error_across", error, x)
            self._add("error", error, error)
            self._add_mean("error_mean", error)
        self.places += x.shape[2]

    def _add_mean(self, name: str, values: Tensor) -> None:
        found = values.sum(2, keepdim=True)
        self._found[name] = self._found[name] + found if name in self._found else found

    def _add(self, name: str, left: Tensor, right: Tensor) -> None:
        columns = left.shape[1]
        if name not in self._found:
            self._found[name] = left.new_zeros(len(left), columns, columns)
        size = columns if left is not right else max(SMALLEST_BLOCK, -(-columns // BLOCKS))
        for start in range(0, columns, size):
            # Of what is symmetric, what lies right of the diagonal is enough; it is mirrored in the end.
            first = start if left is right else 0
            block = self._found[name][:, start : start + size, first:]
            block.baddbmm_(left[:, start : start + size], right[:, first:].transpose(1, 2))

    def finish(self) -> Moments:
        """Makes means of sums, after all is added; in place, as they are large."""
        for name, found in self._found.items():
            found.div_(self.places)
            if name in ("hessian", "error"):
                found.triu_().add_(found.triu(1).transpose(1, 2))
        return self

    def join(self, other: Moments) -> Moments:
        """Makes these the moments of both together, which are finished; the other ones are gone then."""
        self.places += other.places
        for name, found in other._found.items():
            self._found[name] = self._found[name].lerp_(found, other.places / self.places) if self._found else found
        other._found.clear()
        return self

    @property
    def hessian(self) -> Tensor:
        """The mean of `x x^T`: half of the Hessian of a row's squared error, `(groups, columns, columns)`.

        Raises:
            ValueError: nothing was added, or the inputs hold NaN or Inf.
        """
        return self._mean("hessian", "the images never reach it")

    @property
    def mean(self) -> Tensor:
        """The mean of `x`, `(groups, columns, 1)`; raises like `hessian`."""
        return self._mean("mean", "the images never reach it")

    @property
    def error_mean(self) -> Tensor:
        """The mean of `e`, `(groups, columns, 1)`; raises like `hessian`."""
        return self._mean("error_mean", "its inputs are not quantized, or changed after that")

    @property
    def error_across(self) -> Tensor:
        """The mean of `e x^T`; raises like `hessian`."""
        return self._mean("error_across", "its inputs are not quantized, or changed after that")

    @property
    def error(self) -> Tensor:
        """The mean of `e e^T`; raises like `hessian`."""
        return self._mean("error", "its inputs are not quantized, or changed after that")

    def _mean(self, name: str, missing: str) -> Tensor:
        if name not in self._found:
            raise ValueError(missing)
        if not bool(self._found[name].sum().isfinite()):
            raise ValueError("its inputs hold NaN or Inf")
        return self._found[name]
