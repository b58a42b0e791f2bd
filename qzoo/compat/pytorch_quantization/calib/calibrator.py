"""What every calibrator has: it collects tensors, computes a range from what it saw, and can start anew."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class _Calibrator:
    """The base of calibrators, for one's own too; the underscore is the original's.

    Args:
        num_bits: the number of bits of the grid that the range is for, or `(4, 3)`.
        axis: where ranges differ; None: one range.
        unsigned: the grid starts at 0.
    """

    def __init__(self, num_bits: int | tuple[int, int], axis: int | tuple[int, ...] | None, unsigned: bool) -> None:
        self._num_bits = num_bits
        self._axis = axis
        self._unsigned = unsigned

    def collect(self, x: Tensor) -> None:
        """Takes note of a tensor."""
        raise NotImplementedError(f"{type(self).__name__} has to say how it collects a tensor.")

    def reset(self) -> None:
        """Forgets what was collected."""
        raise NotImplementedError(f"{type(self).__name__} has to say how it starts anew.")

    def compute_amax(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """Returns the range; None if nothing was collected."""
        raise NotImplementedError(f"{type(self).__name__} has to say how it computes a range.")

    def __repr__(self) -> str:
        return f"num_bits={self._num_bits} axis={self._axis} unsigned={self._unsigned}"
