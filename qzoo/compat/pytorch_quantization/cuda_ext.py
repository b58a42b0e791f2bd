"""The CUDA extension of pytorch-quantization, which qzoo has not: its arithmetic needs no compiler and no GPU.

A script may import it; whoever calls one of its functions is told what does the same.
"""

from __future__ import annotations

from typing import NoReturn

from qzoo.errors import UnsupportedError

INSTEAD = {
    "fake_tensor_quant": "tensor_quant.fake_tensor_quant(x, amax, num_bits, unsigned, narrow_range)",
    "fake_tensor_quant_": "x.copy_(tensor_quant.fake_tensor_quant(x, amax, num_bits, unsigned, narrow_range))",
    "fake_tensor_quant_with_axis": "tensor_quant.fake_tensor_quant(x, amax.view(1, -1, 1, 1), num_bits, ...), with "
    "amax of size 1 in every dimension but the axis",
    "fake_e4m3fy": "tensor_quant.scaled_e4m3(x, None)",
}
"""By function of the extension: what does the same, on any device."""


def __getattr__(name: str) -> NoReturn:
    if name not in INSTEAD:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    raise UnsupportedError(
        f"cuda_ext.{name} is a CUDA kernel of pytorch-quantization, which qzoo does not have. The same, on any device: "
        f"{INSTEAD[name]}, from qzoo.compat.pytorch_quantization."
    )
