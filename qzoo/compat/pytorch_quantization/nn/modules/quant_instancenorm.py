"""Quantized instance normalization: torch's own, on the quantized input."""

from __future__ import annotations

from torch import nn

from qzoo.compat.pytorch_quantization.nn.modules.quantized import QuantizedInput

__all__ = ["QuantInstanceNorm1d", "QuantInstanceNorm2d", "QuantInstanceNorm3d"]


class QuantInstanceNorm1d(QuantizedInput, nn.InstanceNorm1d):
    """`nn.InstanceNorm1d` of a quantized input."""


class QuantInstanceNorm2d(QuantizedInput, nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` of a quantized input."""


class QuantInstanceNorm3d(QuantizedInput, nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` of a quantized input."""
