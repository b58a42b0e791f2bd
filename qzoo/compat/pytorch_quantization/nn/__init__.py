"""Quantized modules by the names of `torch.nn`, in the words of pytorch-quantization."""

from qzoo.compat.pytorch_quantization.nn.modules import (
    clip,
    quant_conv,
    quant_instancenorm,
    quant_linear,
    quant_pooling,
    quant_rnn,
    tensor_quantizer,
)
from qzoo.compat.pytorch_quantization.nn.modules.clip import *
from qzoo.compat.pytorch_quantization.nn.modules.quant_conv import *
from qzoo.compat.pytorch_quantization.nn.modules.quant_instancenorm import *
from qzoo.compat.pytorch_quantization.nn.modules.quant_linear import *
from qzoo.compat.pytorch_quantization.nn.modules.quant_pooling import *
from qzoo.compat.pytorch_quantization.nn.modules.quant_rnn import *
from qzoo.compat.pytorch_quantization.nn.modules.tensor_quantizer import *

__all__ = [
    *clip.__all__,
    *quant_conv.__all__,
    *quant_instancenorm.__all__,
    *quant_linear.__all__,
    *quant_pooling.__all__,
    *quant_rnn.__all__,
    *tensor_quantizer.__all__,
]
