"""What values the tensors of a model can have.

A digest says that a file is as it was written, not that it makes sense: whoever signs it can sign nonsense.
"""

from __future__ import annotations

import torch
from torch import Tensor

COUNTER = "num_batches_tracked"
"""The counter of batch norm; no prediction depends on it, and old checkpoints lack it."""
ZERO_POINT = "zero_point"
"""Of a quantizer: what the integers of its grid are counted from."""
STATISTICS = ("running_mean", "running_var")
"""Buffers of normalization layers. All else may hold an infinity on purpose, as attention masks do."""
DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    }
)  # fmt: skip
LARGEST_ZERO_POINT = 2**16 - 1
"""Of 16 bits, which are the most that a quantizer has."""
MOST_EXPANDED = 64_000_000
"""Bytes of a tensor of which fewer are stored."""


def plain_fault(value: Tensor) -> str | None:
    """Returns why a tensor of a file is none of plain values in memory, as the end of a sentence; None if it is one.

    A stride of 0 lets a file of some bytes hold a tensor of any size, whose first copy takes all memory.
    """
    if value.is_nested or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "is no dense tensor with values (sparse, nested, quantized or on the meta device)"
    if value.dtype not in DTYPES:
        return f"holds {str(value.dtype).removeprefix('torch.')}"
    expanded = value.numel() * value.element_size()
    if expanded > max(MOST_EXPANDED, value.untyped_storage().nbytes()):
        return f"claims {value.numel():,} values of {value.untyped_storage().nbytes():,} bytes"
    return None


def value_fault(key: str, value: Tensor, *, weight: bool = False, own: Tensor | None = None) -> str | None:
    """Returns what is impossible about a tensor of a state dict, as what its file does; None if nothing is.

    Args:
        key: a key of the state dict; its last part tells batch norm's statistics and zero points.
        value: on any device but meta.
        weight: it is a parameter, which is finite; a buffer may hold an infinity where the model's own does.
        own: the model's tensor of that key, as its class made it, where there is one with values.

    Example:
        >>> value_fault("bn1.running_var", torch.tensor([1.0, -1.0]))
        'holds -1 in bn1.running_var, and a variance is at least 0'
    """
    name = key.rpartition(".")[2]
    if not (value.is_floating_point() or value.is_complex()):
        if name == ZERO_POINT and bool((odd := (value < 0) | (value > LARGEST_ZERO_POINT)).any()):
            return f"holds {int(value[odd][0])} in {key}, and a zero point is 0 to {LARGEST_ZERO_POINT}"
        below = name == COUNTER and bool((value < 0).any())
        return f"holds {int(value.min())} in {key}, and a count is at least 0" if below else None
    odd = ~value.isfinite()
    if not weight and name not in STATISTICS:
        usual = own is not None and not own.is_meta and own.shape == value.shape
        odd = odd & (value.isnan() | ~own.isinf().to(value.device)) if usual and own is not None else value.isnan()
    if bool(odd.any()):
        return f"holds NaN or Inf in {key}"
    if name == "running_var" and not value.is_complex() and bool((value.double() < 0).any()):
        return f"holds {float(value.double().min()):g} in {key}, and a variance is at least 0"
    return None


def constant_fault(key: str, value: Tensor, own: Tensor) -> str | None:
    """Returns what is wrong with an integer buffer of a library's model, as what its file does; None if nothing is.

    Such are the tables of relative positions in attention: an index beyond what it points into stops the model.
    """
    if own.is_meta or own.is_floating_point() or own.dtype.is_complex or torch.equal(value.to(own), own):
        return None
    return f"holds another {key} than the table that the model's class computes"


def bool_fault(value: Tensor) -> bool:
    """Whether a tensor of truth values holds bytes other than 0 and 1, which torch takes for either by turns."""
    return value.dtype == torch.bool and value.numel() > 0 and int(value.view(torch.uint8).max()) > 1
