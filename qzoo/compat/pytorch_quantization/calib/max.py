"""The calibrator that keeps the largest magnitude."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qzoo.compat.pytorch_quantization.calib.calibrator import _Calibrator
from qzoo.compat.pytorch_quantization.utils import reduce_amax
from qzoo.compat.pytorch_quantization.utils.axes import other_axes


class MaxCalibrator(_Calibrator):
    """The largest magnitude of all tensors, one for each place along the axis.

    Args:
        num_bits: not looked at.
        axis: dimension or dimensions along which ranges differ.
        unsigned: not looked at.
        track_amax: keep the largest magnitude of each tensor, in `amaxs`.

    Example:
        >>> calibrator = MaxCalibrator(8, None, False, track_amax=True)
        >>> calibrator.collect(torch.tensor([-3.0, 2.0]))
        >>> calibrator.collect(torch.tensor([1.0]))
        >>> calibrator.compute_amax(), [float(amax) for amax in calibrator.amaxs]
        (tensor(3.), [3.0, 1.0])
    """

    def __init__(
        self, num_bits: int | tuple[int, int], axis: int | tuple[int, ...] | None, unsigned: bool,
        track_amax: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(num_bits, axis, unsigned)
        self._track_amax = track_amax
        self._amaxs: list[np.ndarray] = []
        self._calib_amax: Tensor | None = None

    @property
    def amaxs(self) -> list[np.ndarray]:
        """What each tensor had, if it is tracked."""
        return self._amaxs

    def collect(self, x: Tensor) -> None:
        """Takes note of a tensor.

        Raises:
            RuntimeError: it has another size along the axis than those before.
        """
        local = reduce_amax(x, axis=other_axes(x, self._axis))
        if self._calib_amax is None:
            self._calib_amax = local
        elif local.shape != self._calib_amax.shape:
            raise RuntimeError(
                f"amax shape changed! Tensors so far had {tuple(self._calib_amax.shape)} ranges along axis "
                f"{self._axis}, this one, {tuple(x.shape)}, has {tuple(local.shape)}. reset() starts anew; for one "
                "range whatever the shape, axis=None."
            )
        else:
            self._calib_amax = torch.maximum(self._calib_amax, local)
        if self._track_amax:
            self._amaxs.append(local.float().cpu().numpy())

    def reset(self) -> None:
        """Forgets the maximum."""
        self._calib_amax = None

    def compute_amax(self) -> Tensor | None:
        """Returns the maximum, with size 1 in every dimension but those of the axis; None if nothing was collected."""
        return self._calib_amax

    def __str__(self) -> str:
        return f"MaxCalibrator(track_amax={self._track_amax})"

    def __repr__(self) -> str:
        tracked = f" amaxs={self._amaxs}" if self._track_amax else ""
        return (
            f"MaxCalibrator({super().__repr__()} calib_amax={self._calib_amax} track_amax={self._track_amax}{tracked})"
        )
