"""Average pooling as ONNX has it: torch's exporter leaves out `divisor_override`, silently (seen in torch 2.15)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch


def translation() -> dict[Any, Callable[..., Any]]:
    """Returns what the exporter makes of average pooling over images and over volumes."""
    return {torch.ops.aten.avg_pool2d.default: _pooling(2), torch.ops.aten.avg_pool3d.default: _pooling(3)}


def _pooling(dims: int) -> Callable[..., Any]:
    from onnxscript import opset21

    op: Any = opset21

    def pooled(
        x: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        kernel, pads = _each(kernel_size, dims), _each(padding, dims)
        strides = _each(stride, dims) if stride else kernel
        # What is padded counts as zeros of the sum that has a divisor of its own.
        counted = count_include_pad or divisor_override is not None
        mean = op.AveragePool(
            x, kernel_shape=kernel, strides=strides, pads=[*pads, *pads], ceil_mode=int(ceil_mode),
            count_include_pad=int(counted),
        )  # fmt: skip
        if divisor_override is None:
            return mean
        return op.Mul(mean, op.CastLike(op.Constant(value_float=math.prod(kernel) / divisor_override), mean))

    return pooled


def _each(values: Sequence[int], dims: int) -> list[int]:
    return [*values] * (dims if len(values) == 1 else 1)
