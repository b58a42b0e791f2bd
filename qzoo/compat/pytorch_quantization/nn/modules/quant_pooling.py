"""Quantized pooling: torch's own, on the quantized input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qzoo.compat.pytorch_quantization.nn.modules import _utils

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "QuantAdaptiveAvgPool1d", "QuantAdaptiveAvgPool2d",
    "QuantAdaptiveAvgPool3d", "QuantAvgPool1d", "QuantAvgPool2d", "QuantAvgPool3d", "QuantMaxPool1d",
    "QuantMaxPool2d", "QuantMaxPool3d",
]  # fmt: skip


class QuantizedInput(_utils.QuantInputMixin):
    """Takes the arguments of the float class, and `quant_desc_input=`; quantizes the input, then runs its forward."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, descriptors = _utils.split_keywords(super().__init__, kwargs)
        desc_input = _utils.pop_quant_desc_in_kwargs(type(self), input_only=True, **descriptors)
        super().__init__(*args, **mine)
        self.init_quantizer(desc_input)

    def forward(self, input: Tensor) -> Any:
        """Returns what the float module makes of the quantized input."""
        return super().forward(self._input_quantizer(input))  # type: ignore[misc]


class QuantMaxPool1d(QuantizedInput, nn.MaxPool1d):
    """`nn.MaxPool1d` of a quantized input."""


class QuantMaxPool2d(QuantizedInput, nn.MaxPool2d):
    """`nn.MaxPool2d` of a quantized input."""


class QuantMaxPool3d(QuantizedInput, nn.MaxPool3d):
    """`nn.MaxPool3d` of a quantized input."""


class QuantAvgPool1d(QuantizedInput, nn.AvgPool1d):
    """`nn.AvgPool1d` of a quantized input."""


class QuantAvgPool2d(QuantizedInput, nn.AvgPool2d):
    """`nn.AvgPool2d` of a quantized input."""


class QuantAvgPool3d(QuantizedInput, nn.AvgPool3d):
    """`nn.AvgPool3d` of a quantized input."""


class QuantAdaptiveAvgPool1d(QuantizedInput, nn.AdaptiveAvgPool1d):
    """`nn.AdaptiveAvgPool1d` of a quantized input."""


class QuantAdaptiveAvgPool2d(QuantizedInput, nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d` of a quantized input."""


class QuantAdaptiveAvgPool3d(QuantizedInput, nn.AdaptiveAvgPool3d):
    """`nn.AdaptiveAvgPool3d` of a quantized input."""


MaxPool1d, MaxPool2d, MaxPool3d = QuantMaxPool1d, QuantMaxPool2d, QuantMaxPool3d
AvgPool1d, AvgPool2d, AvgPool3d = QuantAvgPool1d, QuantAvgPool2d, QuantAvgPool3d
AdaptiveAvgPool1d, AdaptiveAvgPool2d = QuantAdaptiveAvgPool1d, QuantAdaptiveAvgPool2d
AdaptiveAvgPool3d = QuantAdaptiveAvgPool3d
