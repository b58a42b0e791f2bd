"""The quantized linear layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.compat.pytorch_quantization import tensor_quant
from qzoo.compat.pytorch_quantization.nn.modules.quantized import QuantizedWeighted

__all__ = ["Linear", "QuantLinear"]


class QuantLinear(QuantizedWeighted, nn.Linear):
    """`nn.Linear`, quantized; by default its weight has one range for each row, which is an output.

    Example:
        >>> layer = QuantLinear(4, 2, bias=False, quant_desc_input=tensor_quant.QuantDescriptor(num_bits=4))
        >>> layer.input_quantizer.num_bits, layer.weight_quantizer.axis
        (4, 0)
    """

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW

    def forward(self, input: Tensor) -> Tensor:
        """Returns the product of the quantized input with the quantized weight."""
        quant_input, quant_weight = self._quant(input)
        return F.linear(quant_input, quant_weight, self.bias)


Linear = QuantLinear
