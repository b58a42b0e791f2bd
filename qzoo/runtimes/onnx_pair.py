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

from qzoo.quant.fake_quant import SMALLEST_AMAX, Grid
from qzoo.runtimes.quant_ops import INTEGERS, stored_dtype


def quantize_dequantize_pair(x: Tensor, amax: Tensor, on: Grid, bits: int) -> Tensor:
    """Returns what stands for a fake-quantized tensor in the graph that is being exported.

    Args:
        x: any shape, float.
        amax: `()`, or of size 1 but along one dimension.
        on: the grid.
        bits: of an integer grid.

    Raises:
        ValueError: ranges differ along several dimensions, which ONNX has no operator for.
    """
    with _untraced():
        axis, scale = _axis(amax), _step(amax, on)
        dtype = stored_dtype(on.fp8, bits, unsigned=on.low == 0)
        flat = scale.reshape(-1) if axis is not None else scale.reshape(())
        zero_point = torch.zeros(flat.shape, dtype=dtype, device=flat.device)
        low, high = on.low * scale, on.high * scale
    if dtype in INTEGERS and (on.low, on.high) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max):
        x = torch.minimum(torch.maximum(x, low), high)
    if torch._C._is_tracing():
        return _TorchScriptPair.apply(x, flat, zero_point, axis)  # type: ignore[no-any-return]
    attributes: Any = {} if axis is None else {"axis": axis}
    stored = torch.onnx.ops.symbolic(
        "QuantizeLinear", (x, flat, zero_point), attributes, dtype=dtype, shape=x.shape
    )  # fmt: skip
    return torch.onnx.ops.symbolic(
        "DequantizeLinear", (stored, flat, zero_point), attributes, dtype=x.dtype, shape=x.shape
    )


@contextmanager
def _untraced() -> Iterator[None]:
    """Lets the TorchScript exporter see results as constants, not how they are computed."""
    tracing: Any = torch._C
    state = tracing._get_tracing_state()
    tracing._set_tracing_state(None)
    try:
        yield
    finally:
        tracing._set_tracing_state(state)


def _axis(amax: Tensor) -> int | None:
    along = [dim for dim, size in enumerate(amax.shape) if size > 1]
    if len(along) > 1:
        raise ValueError(f"ONNX does not support multi-axis quantization: amax has shape {tuple(amax.shape)}.")
    return along[0] if along else None


def _step(amax: Tensor, on: Grid) -> Tensor:
    amax = amax.detach().float()
    tiny = torch.finfo(torch.float32).tiny  # of a range that holds nothing: all comes to 0
    return torch.where(amax <= SMALLEST_AMAX, tiny, amax / on.bound)


class _TorchScriptPair(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero_point: Any, axis: int | None) -> Any:
        attributes = {} if axis is None else {"axis_i": axis}
        stored = g.op("QuantizeLinear", x, scale, zero_point, **attributes)
        return g.op("DequantizeLinear", stored, scale, zero_point, **attributes).setType(x.type())
