"""The two operators that an exported model speaks of quantization with, and what they are in ONNX.

`quantize_dequantize` is a quantizer of activations: QuantizeLinear, then DequantizeLinear. `dequantize` gives a weight
from the integers that are stored of it. torch sees each as one operator, so that tracing can't take it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qzoo.quant.fake_quant import Grid, quantization_scale

SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""Of a range that holds nothing: all comes to 0, as it does in the quantizer."""
EMPTY_SCALE = 2.0**-10
"""Of such a range behind a clip to 0: any serves, so one that a runtime can use, as most are."""
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.uint16)


@torch.library.custom_op("qzoo::quantize_dequantize", mutates_args=())
def quantize_dequantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Returns `x` rounded to the grid of a type, as ONNX defines QuantizeLinear and DequantizeLinear.

    Args:
        x: float, any shape.
        scale: the size of a step, of the dtype of `x`, `()`.
        zero_point: what 0 is stored as; its dtype is that of the stored values.
    """
    steps = x.float() / scale
    if zero_point.dtype not in INTEGERS:
        largest = torch.finfo(zero_point.dtype).max
        return (steps.clamp(-largest, largest).to(zero_point.dtype).float() * scale).to(x.dtype)
    of_type, zero = torch.iinfo(zero_point.dtype), zero_point.float()
    return (((steps.round() + zero).clamp(of_type.min, of_type.max) - zero) * scale).to(x.dtype)


@torch.library.custom_op("qzoo::dequantize", mutates_args=())
def dequantize(values: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Returns stored values scaled back, in the dtype of the scale.

    Args:
        values: as stored, of an integer or FP8 dtype.
        scale: the size of a step, float32 or float16; `()`, or `(C,)` along the axis.
        axis: of the channels.
    """
    shape = [-1 if dim == axis else 1 for dim in range(values.dim())] if scale.dim() else []
    return (values.float() * scale.view(shape)).to(scale.dtype)


@quantize_dequantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x)


@dequantize.register_fake
def _(values: Tensor, scale: Tensor, axis: int) -> Tensor:
    return torch.empty_like(values, dtype=scale.dtype)


def translation() -> dict[Any, Callable[..., Any]]:
    """Returns what the exporter makes of the operators."""
    from onnxscript import opset21

    op: Any = opset21

    def quantized(x: Any, scale: Any, zero_point: Any) -> Any:
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero_point), scale, zero_point)

    def stored(values: Any, scale: Any, axis: int) -> Any:
        return op.DequantizeLinear(values, scale, axis=axis)

    return {
        torch.ops.qzoo.quantize_dequantize.default: quantized,
        torch.ops.qzoo.dequantize.default: stored,
    }


def step_size(amax: Tensor, on: Grid) -> Tensor:
    """Returns the scale of ONNX, `amax / bound`, float32, in the shape of `amax`."""
    step: Any = amax.detach().float() / on.bound
    return torch.where(quantization_scale(amax, on) == 0, SMALLEST_SCALE, step)


def has_more_values(dtype: torch.dtype, on: Grid) -> bool:
    """Whether a type stores values beyond the ends of a grid, so that what is quantized has to be clipped before.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> has_more_values(torch.int8, grid(bits=8)), has_more_values(torch.int8, grid(bits=4))
        (False, True)
    """
    return dtype in INTEGERS and (on.low, on.high) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def stored_dtype(fp8: torch.dtype | None, bits: int, unsigned: bool) -> torch.dtype:
    """Returns the narrowest dtype of ONNX and torch alike that holds the values of a grid.

    Example:
        >>> stored_dtype(None, 4, unsigned=True), stored_dtype(None, 10, unsigned=False)
        (torch.uint8, torch.int16)
    """
    if fp8 is not None:
        return fp8
    if bits <= 8:
        return torch.uint8 if unsigned else torch.int8
    return torch.uint16 if unsigned else torch.int16
