"""Quantizing a tensor by a function, in the words of pytorch-quantization; the arithmetic is `qzoo.quant.fake_quant`.

What they compute in float32 is what the CPU path of pytorch-quantization 2.2.1 computes, bit for bit, gradients
included. float16 and bfloat16 are computed in float32 and rounded once, at the end, as its CUDA kernels do.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from qzoo.compat.pytorch_quantization.quant_descriptor import E4M3, QuantDescriptor, ScaledQuantDescriptor
from qzoo.quant.backward import pass_between
from qzoo.quant.fake_quant import Grid, fake_quantize, fake_quantize_affine, grid, quantization_scale, quantize

__all__ = [
    "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL", "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL", "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL", "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW", "QUANT_DESC_8BIT_PER_TENSOR", "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR",
    "QuantDescriptor", "ScaleOverflowWarning", "ScaledQuantDescriptor", "fake_affine_tensor_quant",
    "fake_tensor_quant", "grid_of", "legacy_fake_tensor_quant", "scaled_e4m3", "tensor_quant",
]  # fmt: skip

QUANT_DESC_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8)
QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8, unsigned=True)
QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)

TINY = 2.0**-24
"""Inputs below it count as 0 in FP8."""


class ScaleOverflowWarning(UserWarning):
    """A range is so small that its scale is more than float16 holds."""


def grid_of(num_bits: int | tuple[int, int], unsigned: bool = False, narrow_range: bool = False) -> Grid:
    """Returns the grid of a descriptor's fields.

    Example:
        >>> grid_of(8, narrow_range=True)
        Grid(low=-127, high=127, bound=127, fp8=None)
    """
    if isinstance(num_bits, tuple):
        return grid("e4m3")
    return grid(bits=num_bits, unsigned=unsigned, narrow=narrow_range)


def tensor_quant(
    inputs: Tensor, amax: Tensor, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
) -> tuple[Tensor, Tensor]:
    """Returns the integers that a tensor is quantized to, in its own dtype, and their scale.

    The gradient of the first passes inside the range and is 0 outside.

    Args:
        inputs: any shape; not changed. Integers are taken as float32.
        amax: at least 0; broadcasts against the inputs.
        num_bits: the number of bits of the integers.
        unsigned: from 0.
        narrow_range: leave out the lowest signed value.

    Returns:
        Integers as floats, of the inputs' shape, and how many steps one unit has, of the shape of `amax`; 1 where the
        range is empty. Their quotient is the fake-quantized tensor.

    Raises:
        TypeError: negative inputs to an unsigned grid.
        ValueError: a range is negative, or its scale is more than the inputs' dtype, float16, holds.

    Example:
        >>> tensor_quant(torch.tensor([0.5, 1.0]), torch.tensor(1.0))
        (tensor([ 64., 127.]), tensor(127.))
    """
    _check(inputs, amax, unsigned)
    inputs = inputs if inputs.is_floating_point() else inputs.float()
    on = grid_of(num_bits, unsigned, narrow_range)
    scale = quantization_scale(amax, on)
    if inputs.dtype == torch.half and _overflows(scale):
        raise ValueError(f"scale is too large for FP16 with amax={amax}. Give float32 inputs, or a larger amax.")
    return _Quantize.apply(inputs, amax, on), torch.where(scale == 0, 1.0, scale).to(inputs.dtype)


def fake_tensor_quant(
    inputs: Tensor, amax: Tensor, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
) -> Tensor:
    """Returns a tensor rounded to the grid that spans its range; the arguments and errors are those of `tensor_quant`.

    Where the original's float16 scale overflows, and gives zeros, the float32 arithmetic here goes on, and tells.

    Warns:
        ScaleOverflowWarning: float16 does not hold the scale.

    Example:
        >>> fake_tensor_quant(torch.tensor([0.5, 1.0]), torch.tensor(1.0), 4)
        tensor([0.5714, 1.0000])
    """
    _check(inputs, amax, unsigned)
    inputs = inputs if inputs.is_floating_point() else inputs.float()
    if num_bits == 0:
        return inputs * 0
    on = grid_of(num_bits, unsigned, narrow_range)
    if inputs.dtype == torch.half and _overflows(quantization_scale(amax, on)):
        warnings.warn(
            f"scale is too large for FP16 with amax={float(amax.min()):.3g}: computed in float32. A runtime that "
            "keeps scales in float16 will give zeros.",
            ScaleOverflowWarning,
            stacklevel=2,
        )
    return fake_quantize(inputs, amax, on)


legacy_fake_tensor_quant = fake_tensor_quant
"""The original has a CUDA kernel and, under this name, a version without; here they are one."""


class TensorQuantFunction:
    """`tensor_quant` under the name of the original's autograd function."""

    apply = staticmethod(tensor_quant)


class FakeTensorQuantFunction:
    """`fake_tensor_quant` under the name of the original's autograd function."""

    apply = staticmethod(fake_tensor_quant)


def fake_affine_tensor_quant(inputs: Tensor, min_range: Tensor, max_range: Tensor, num_bits: int = 8) -> Tensor:
    """Returns a tensor rounded to `2**num_bits` steps from `min_range` to `max_range`, of which one is 0.

    The gradient passes from `min_range` to `max_range` and is 0 outside.

    Args:
        inputs: float32, any shape; not changed.
        min_range: float32 `()`.
        max_range: float32 `()`.
        num_bits: the number of bits of the values.
    """
    return _FakeAffine.apply(inputs, min_range, max_range, num_bits)  # type: ignore[no-any-return]


def scaled_e4m3(inputs: Tensor, amax: Tensor | float | None = None, E: int = 4, M: int = 3) -> Tensor:
    """Returns a tensor rounded to FP8 E4M3, after scaling `amax` to its largest value, 448; None: as it is.

    Inputs below 2^-24 become 0.

    Raises:
        NotImplementedError: another format than E4M3.

    Example:
        >>> scaled_e4m3(torch.tensor([0.2, 1.8]))
        tensor([0.2031, 1.7500])
    """
    if (E, M) != E4M3:
        raise NotImplementedError(f"Only support E=4 & M=3 for now, not E={E}, M={M}. Recipes have `format: e5m2` too.")
    on = grid("e4m3")
    ranges = torch.as_tensor(on.bound if amax is None else amax, dtype=torch.float32, device=inputs.device)
    rounded = fake_quantize(inputs, ranges, on)
    # The gradient is that of rounding: a weight that is 0 has to be able to leave it.
    return rounded + (torch.where(inputs.abs() < TINY, 0.0, rounded) - rounded).detach()


def _check(inputs: Tensor, amax: Tensor, unsigned: bool) -> None:
    if torch.compiler.is_compiling():
        return
    if unsigned and inputs.numel() and inputs.min() < 0:
        raise TypeError(
            f"Negative values encountered in unsigned quantization. The smallest is {float(inputs.min()):.4g}: say "
            "unsigned=False, or, in a recipe, `unsigned: auto`."
        )
    if amax.min() < 0:
        raise ValueError(f"Negative values in amax. The smallest is {float(amax.min()):.4g}; a range is at least 0.")


def _overflows(scale: Tensor) -> bool:
    return not torch.compiler.is_compiling() and bool(scale.max() > torch.finfo(torch.half).max)


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor, on: Grid) -> Tensor:
        ctx.save_for_backward(x, amax)
        return quantize(x, amax, on).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, amax = ctx.saved_tensors
        return pass_between(grad, x, -amax, amax), None, None


class _FakeAffine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, smallest: Tensor, largest: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(x, smallest, largest)
        return fake_quantize_affine(x, smallest, largest, bits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return pass_between(grad, *ctx.saved_tensors), None, None, None
