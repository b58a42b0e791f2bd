"""`Clip`: a module that clips to bounds, which may be parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qzoo.compat.pytorch_quantization.nn import functional as QF

__all__ = ["Clip"]


class Clip(nn.Module):
    """Clips a tensor to bounds.

    Args:
        clip_value_min: number, array or tensor.
        clip_value_max: number, array or tensor.
        learn_min: the lower bound is a parameter, that starts there; it has to be a number, and no tensor.
        learn_max: the upper bound is a parameter, that starts there; it has to be a number, and no tensor.

    Raises:
        ValueError: a bound that is to be learned is no number.

    Example:
        >>> Clip(-1.0, 1.0)(torch.tensor([-3.0, 0.5]))
        tensor([-1.0000,  0.5000])
    """

    def __init__(
        self, clip_value_min: Any, clip_value_max: Any, learn_min: bool = False, learn_max: bool = False
    ) -> None:
        super().__init__()
        self._set("clip_value_min", clip_value_min, learn_min)
        self._set("clip_value_max", clip_value_max, learn_max)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the inputs between the bounds."""
        low, high = (_tensor(bound).to(inputs) for bound in (self.clip_value_min, self.clip_value_max))
        return QF.clip(inputs, low, high)  # type: ignore[no-any-return]

    def _set(self, name: str, value: Any, learned: bool) -> None:
        if not learned:
            setattr(self, name, value)
            return
        # Tensors are refused as by the original: whether training changes the caller's would be anybody's guess.
        if isinstance(value, Tensor) or np.size(value) != 1:
            raise ValueError(
                "clip_value_min/clip_value_max must be scalar for initializing learnable range, not "
                f"{type(value).__name__} of shape {tuple(np.shape(value))}. Give a number."
            )
        setattr(self, name, nn.Parameter(torch.tensor(float(value))))


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float32)
