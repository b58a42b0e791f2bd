"""One quantizer as a Q/DQ pair, written into a graph by the model itself while `torch.onnx.export` runs it.

`to_onnx` swaps quantizers for operators before it exports. A script that calls `torch.onnx.export` on its own model
can't, so its quantizers write the pair themselves: by `torch.onnx.ops.symbolic` for the exporter of today, by a
function with a `symbolic` for the one of TorchScript (`dynamo=False`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from qzoo.errors import UnsupportedError
from qzoo.quant.fake_quant import Grid, quantization_scale
from qzoo.quant.tracing import is_traced
from qzoo.runtimes.quant_ops import EMPTY_SCALE, has_more_values, step_size, stored_dtype

try:
    # What `is_in_onnx_export` looks at, where it is not Dynamo that asks.
    from torch.onnx._internal.exporter import _flags as _FLAGS
except ImportError:
    _FLAGS = None  # type: ignore[assignment]

_GET_STATE: Any = getattr(torch._C, "_get_tracing_state", None)
_SET_STATE: Any = getattr(torch._C, "_set_tracing_state", None)

MOST_BITS = 16
OPSETS = {torch.int16: 21, torch.uint16: 21, torch.float8_e4m3fn: 19}
"""The opset that brought a type of stored values."""


def is_exporting() -> bool:
    """Whether `torch.onnx.export` is running the model, by any of its ways.

    When its first try fails it tries again through Dynamo, to which `torch.onnx.is_in_onnx_export` is always False; a
    graph without quantizers would come of that, and no error.
    """
    return torch.onnx.is_in_onnx_export() or getattr(_FLAGS, "_is_onnx_exporting", False)


def quantize_dequantize_pair(x: Tensor, amax: Tensor, on: Grid, bits: int) -> Tensor:
    """Returns what stands for a fake-quantized tensor in the graph that is being exported.

    Args:
        x: any shape, float; of less or more than 32 bits it is cast before and after.
        amax: broadcasts against `x`, of size 1 but along one dimension.
        on: the grid.
        bits: the number of bits of an integer grid, at most 16.

    Raises:
        UnsupportedError: more bits than ONNX has a type for.
        ValueError: ranges differ along several dimensions, which ONNX has no operator for.
    """
    if on.fp8 is None and bits > MOST_BITS:
        raise UnsupportedError(f"ONNX stores quantized values of at most {MOST_BITS} bits, not {bits}.")
    traced = is_traced()
    with untraced():
        axis, scale = _axis(amax, x.dim()), step_size(amax, on)
        dtype = stored_dtype(on.fp8, bits, unsigned=on.low == 0)
        low, high, clipped = on.low * scale, on.high * scale, has_more_values(dtype, on)
        # Dynamo has no values to look at.
        if traced and bool((empty := quantization_scale(amax, on) == 0).any()):
            low, high, scale = low.where(~empty, 0.0), high.where(~empty, 0.0), scale.where(~empty, EMPTY_SCALE)
            clipped = True
        flat = scale.reshape(-1) if axis is not None else scale.reshape(())
        zero_point = torch.zeros(flat.shape, dtype=dtype, device=flat.device)
    full = x.dtype == torch.float32
    y = x if full else x.float()
    if clipped:
        y = torch.minimum(torch.maximum(y, low), high)
    if traced:
        scripted: Tensor = _TorchScriptPair.apply(y, flat, zero_point, axis)
        return scripted if full else scripted.to(x.dtype)
    attributes: Any = {} if axis is None else {"axis": axis}
    written: Any = {"shape": x.shape, "version": OPSETS.get(dtype)}
    stored = torch.onnx.ops.symbolic("QuantizeLinear", (y, flat, zero_point), attributes, dtype=dtype, **written)
    pair = torch.onnx.ops.symbolic(
        "DequantizeLinear", (stored, flat, zero_point), attributes, dtype=torch.float32, **written
    )
    return pair if full else pair.to(x.dtype)


@contextmanager
def untraced() -> Iterator[None]:
    """Lets the TorchScript exporter see results as constants, not how they are computed.

    Without torch's private names for that, the graph computes them itself, to the same values.
    """
    if _GET_STATE is None or _SET_STATE is None:
        yield
        return
    state = _GET_STATE()
    _SET_STATE(None)
    try:
        yield
    finally:
        _SET_STATE(state)


def _axis(amax: Tensor, dims: int) -> int | None:
    # Counted from the last dimension, as broadcasting does.
    along = [dims - amax.dim() + dim for dim, size in enumerate(amax.shape) if size > 1]
    if len(along) > 1:
        raise ValueError(f"ONNX does not support multi-axis quantization: amax has shape {tuple(amax.shape)}.")
    return along[0] if along else None


class _TorchScriptPair(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero_point: Any, axis: int | None) -> Any:
        attributes = {} if axis is None else {"axis_i": axis}
        stored = g.op("QuantizeLinear", x, scale, zero_point, **attributes)
        return g.op("DequantizeLinear", stored, scale, zero_point, **attributes).setType(x.type())
