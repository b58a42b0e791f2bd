"""What weights were multiplied by, a factor for each output and input channel, so that they can be made anew.

A weight of a layer has its output channels along one of its first two axes, and its input channels along the other:

    Linear, Conv              (out, in / groups, ...)     axis 0
    ConvTranspose             (in, out / groups, ...)     axis 1
    x @ w                     (in, out)                   axis 1

With groups the first axis has the channels of all groups one after the other, and the second those of one group.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Factors:
    """What one weight was multiplied by.

    Attributes:
        axis: of its output channels, 0 or 1.
        rows: float32, one for each output channel of all groups; None for ones.
        columns: float32, one for each input channel of all groups; None for ones.
    """

    axis: int = 0
    rows: Tensor | None = None
    columns: Tensor | None = None


@dataclass
class ChannelFactors:
    """What the weights of a model were multiplied by, by the keys of their state dict; steps fill it.

    Each weight is always computed from what it was before the first step, so that it can be made anew bit for bit.

    Attributes:
        weights: the factors of each weight that has some.

    Example:
        >>> record, weight = ChannelFactors(), torch.ones(2, 2)
        >>> record.multiply("fc.weight", weight, rows=torch.tensor([1.0, 3.0]))
        >>> record.multiply("fc.weight", weight, columns=torch.tensor([0.5, 1.0]))
        >>> weight
        tensor([[0.5000, 1.0000],
                [1.5000, 3.0000]])
        >>> record.weights["fc.weight"].rows
        tensor([1., 3.])
    """

    weights: dict[str, Factors] = field(default_factory=dict)
    _originals: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def multiply(
        self, key: str, weight: Tensor, *, rows: Tensor | None = None, columns: Tensor | None = None, axis: int = 0
    ) -> None:
        """Multiplies a weight, in place, and notes by what.

        Args:
            key: of the weight in the state dict.
            weight: what is there now; nothing but this record may have changed it since the first call with its key.
            rows: for each output channel.
            columns: for each input channel.
            axis: of the output channels, 0 or 1.
        """
        self._originals.setdefault(key, weight.detach().clone())
        known = self.weights.setdefault(key, Factors(axis))
        known.rows, known.columns = _product(known.rows, rows), _product(known.columns, columns)
        with torch.no_grad():
            weight.copy_(scaled(self._originals[key], known.rows, known.columns, axis))

    def undo(self, tensors: dict[str, Tensor]) -> None:
        """Gives every weight its values before the first step, in place, and forgets all factors."""
        with torch.no_grad():
            for key, original in self._originals.items():
                tensors[key].copy_(original)
        self.weights.clear()
        self._originals.clear()


def scaled(weight: Tensor, rows: Tensor | None, columns: Tensor | None, axis: int = 0) -> Tensor:
    """Returns a weight times a factor for each output and each input channel.

    The product is taken in float32 (float64 for such a weight), rows first, and rounded to the weight's dtype once.

    Args:
        weight: of a layer, at least two dimensions.
        rows: one for each output channel of all groups; None for ones.
        columns: one for each input channel of all groups; None for ones.
        axis: of the output channels, 0 or 1.

    Raises:
        ValueError: there are fewer or more factors than channels.

    Example:
        >>> depthwise = torch.ones(2, 1, 1)
        >>> scaled(depthwise, None, torch.tensor([2.0, 3.0])).flatten()
        tensor([2., 3.])
    """
    values = weight.to(torch.promote_types(weight.dtype, torch.float32))
    for factors, place in ((rows, axis), (columns, 1 - axis)):
        if factors is not None:
            values = values * along_axis(factors.to(values), place, weight.shape)
    return values.to(weight.dtype)


def along_axis(vector: Tensor, place: int, shape: torch.Size) -> Tensor:
    """Returns a value for each channel in a shape that broadcasts against a weight.

    Args:
        vector: one for each channel, of all groups.
        place: which of the first two axes the channels lie along; along the second are those of one group.
        shape: of the weight.

    Raises:
        ValueError: there are fewer or more values than channels.
    """
    rest = [1] * (len(shape) - 2)
    if place == 0 and len(vector) == shape[0]:
        return vector.reshape(-1, 1, *rest)
    groups = len(vector) // shape[1]
    if place == 0 or groups == 0 or len(vector) % shape[1] or shape[0] % groups:
        channels = f"{shape[0]} channels" if place == 0 else f"a multiple of {shape[1]} channels"
        raise ValueError(
            f"{len(vector)} factors do not fit a weight of shape {tuple(shape)}: axis {place} has {channels}"
        )
    return vector.reshape(groups, shape[1]).repeat_interleave(shape[0] // groups, 0).reshape(*shape[:2], *rest)


def channel_maxima(magnitudes: Tensor, place: int, channels: int) -> Tensor:
    """Returns the largest value of each channel.

    Args:
        magnitudes: those of a weight, `(first axis, second axis)`.
        place: which of the two the channels lie along.
        channels: how many there are in all groups.

    Example:
        >>> grouped = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # two groups of one output and two inputs
        >>> channel_maxima(grouped, 1, 4)
        tensor([1., 2., 3., 4.])
    """
    if place == 0:
        return magnitudes.amax(1)
    return magnitudes.reshape(channels // magnitudes.shape[1], -1, magnitudes.shape[1]).amax(1).flatten()


def magnitudes_of(weight: Tensor) -> Tensor:
    """Returns the largest absolute values of a weight's kernels, float32, `(first axis, second axis)`."""
    return weight.detach().float().flatten(2).abs().amax(2) if weight.dim() > 2 else weight.detach().float().abs()


def _product(known: Tensor | None, factors: Tensor | None) -> Tensor | None:
    if factors is None:
        return known
    factors = factors.detach().float()
    return factors.clone() if known is None else known * factors
