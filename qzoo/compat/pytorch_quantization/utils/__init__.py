"""Small functions that pytorch-quantization has in its `utils`."""

from qzoo.compat.pytorch_quantization.utils.reduce_amax import reduce_amax

__all__ = ["reduce_amax"]
