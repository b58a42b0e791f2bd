"""The quantized weight, kept from call to call for as long as the weight holds the same values.

What tells whether it does is the values themselves. A version counter would cost less, but misses fused optimizers,
`.data`, arrays of NumPy that share the memory, and collectives: whoever writes, a write is seen here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.tracing import has_values


class _Kept(NamedTuple):
    grid: Any
    amax: Tensor
    zero_point: Tensor | None
    weight: Tensor
    quantized: Tensor
    written: tuple[int, int]


class WeightCache:
    """Quantizes a weight, or returns the quantized weight of the call before.

    Holds a copy of the float weight beside the quantized one. On a CPU comparing takes a fifth of the time of
    quantizing anew; elsewhere, in training, and while a graph is captured, the weight is quantized in each call.

    Example:
        >>> from qzoo.schema.quantizer import QuantizerSpec
        >>> quantizer, weight, cache = TensorQuantizer(QuantizerSpec()), torch.tensor([0.1, 0.3]), WeightCache()
        >>> quantizer.set_amax(torch.tensor(1.27))
        >>> cache.quantized(quantizer, weight) is cache.quantized(quantizer, weight)
        True
        >>> weight.data[0] = 0.2
        >>> cache.quantized(quantizer, weight)
        tensor([0.2000, 0.3000])
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def quantized(self, quantizer: TensorQuantizer, weight: Tensor) -> Tensor:
        """Returns what the quantizer makes of the weight; not to be written to.

        Args:
            quantizer: the quantizer of the weight, in any state.
            weight: float, any shape.
        """
        if quantizer.state != "quantizing" or not _can_be_kept(weight, quantizer.amax):
            return quantizer(weight)  # type: ignore[no-any-return]
        kept = self._kept
        if kept is None or not _is_made_of(kept, quantizer, weight):
            # Made outside inference mode, so that the value serves every later mode.
            with torch.inference_mode(False), torch.no_grad():
                quantized = quantizer(weight)
                zero = None if quantizer.zero_point is None else quantizer.zero_point.clone()
                kept = _Kept(
                    quantizer.grid, quantizer.amax.clone(), zero, weight.clone(), quantized, _written(quantized)
                )
            self._kept = kept
        return kept.quantized


def _written(tensor: Tensor) -> tuple[int, int]:
    """Returns what changes when a layer's own forward writes to the weight that it sees."""
    return tensor._version, tensor.data_ptr()


def _is_made_of(kept: _Kept, quantizer: TensorQuantizer, weight: Tensor) -> bool:
    return (
        kept.grid == quantizer.grid
        and kept.written == _written(kept.quantized)
        and kept.weight.dtype == weight.dtype
        # Other strides, other kernels: the last bit of the layer's output could differ.
        and kept.weight.stride() == weight.stride()
        and torch.equal(kept.amax, quantizer.amax)
        and _are_equal(kept.zero_point, quantizer.zero_point)
        and torch.equal(kept.weight, weight)
    )


def _are_equal(one: Tensor | None, other: Tensor | None) -> bool:
    return (one is other) if one is None or other is None else torch.equal(one, other)


def _can_be_kept(weight: Tensor, amax: Tensor) -> bool:
    if torch.is_grad_enabled() and (weight.requires_grad or amax.requires_grad):
        return False
    return has_values(weight) and has_values(amax)
