"""The public surface of NVIDIA's pytorch-quantization 2.2.1, on qzoo's own arithmetic, collectors and solvers.

Its scripts run, on a CPU too, with the imports changed:

    from qzoo.compat.pytorch_quantization import calib, quant_modules
    from qzoo.compat.pytorch_quantization import nn as quant_nn
    from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
"""

from qzoo.compat.pytorch_quantization.quant_modules import deactivate, enable_onnx_export, initialize

__all__ = ["deactivate", "enable_onnx_export", "initialize"]
__version__ = "2.2.1"
