"""Quantized convolutions: torch's own, on the quantized input and weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.compat.pytorch_quantization import tensor_quant
from qzoo.compat.pytorch_quantization.nn.modules.quantized import QuantizedWeighted

__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "QuantConv1d",
    "QuantConv2d", "QuantConv3d", "QuantConvTranspose1d", "QuantConvTranspose2d", "QuantConvTranspose3d",
]  # fmt: skip


class _QuantConvNd(QuantizedWeighted):
    _conv_forward: Callable[..., Tensor]

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution of the quantized input with the quantized weight."""
        quant_input, quant_weight = self._quant(input)
        return self._conv_forward(quant_input, quant_weight, self.bias)


class _QuantConvTransposeNd(QuantizedWeighted):
    # Its weight is (in, out / groups, ...): along axis 1, groups share their ranges.
    _convolve: Callable[..., Tensor]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Returns the transposed convolution of the quantized input with the quantized weight."""
        own: Any = self
        if own.padding_mode != "zeros":
            raise ValueError(f"Only `zeros` padding mode is supported for {type(self).__name__}.")
        output_padding = own._output_padding(
            input, output_size, own.stride, own.padding, own.kernel_size, len(own.kernel_size), own.dilation
        )
        quant_input, quant_weight = self._quant(input)
        return type(self)._convolve(
            quant_input, quant_weight, self.bias, own.stride, own.padding, output_padding, own.groups, own.dilation
        )


class QuantConv1d(_QuantConvNd, nn.Conv1d):
    """`nn.Conv1d`, quantized; by default its weight has one range for each output channel."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL


class QuantConv2d(_QuantConvNd, nn.Conv2d):
    """`nn.Conv2d`, quantized; by default its weight has one range for each output channel.

    Example:
        >>> QuantConv2d(3, 8, 3, quant_desc_weight=tensor_quant.QuantDescriptor(num_bits=4, axis=0)).weight_quantizer
        TensorQuantizer(4bit fake axis=0 amax=dynamic calibrator=MaxCalibrator scale=1.0 quant)
    """

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL


class QuantConv3d(_QuantConvNd, nn.Conv3d):
    """`nn.Conv3d`, quantized; by default its weight has one range for each output channel."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL


class QuantConvTranspose1d(_QuantConvTransposeNd, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d`, quantized; by default its weight has one range for each output channel of a group."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose1d)


class QuantConvTranspose2d(_QuantConvTransposeNd, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, quantized; by default its weight has one range for each output channel of a group."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose2d)


class QuantConvTranspose3d(_QuantConvTransposeNd, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d`, quantized; by default its weight has one range for each output channel of a group."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose3d)


Conv1d, Conv2d, Conv3d = QuantConv1d, QuantConv2d, QuantConv3d
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = QuantConvTranspose1d, QuantConvTranspose2d, QuantConvTranspose3d
