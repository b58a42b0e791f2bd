"""The way back from a quantized model to a float one."""

from __future__ import annotations

from torch import nn

from qzoo.models.provenance import Provenance, provenance, remember
from qzoo.quant.derived import copy_model, underive
from qzoo.quant.quantizer import TensorQuantizer


def float_copy(model: nn.Module) -> nn.Module:
    """Returns a copy of a quantized model without its quantizers: its layers have their own classes again.

    Weights are those of the model, trained with quantizers or not.

    Args:
        model: quantized or float; not changed.

    Example:
        >>> from qzoo.zoo.create import quantize
        >>> type(float_copy(quantize(nn.Sequential(nn.Linear(2, 2)), "int8"))[0])
        <class 'torch.nn.modules.linear.Linear'>
    """
    plain = copy_model(model)
    for module in list(plain.modules()):
        underive(module)
        for name in [name for name, child in module._modules.items() if isinstance(child, TensorQuantizer)]:
            del module._modules[name]
    made = provenance(model) or Provenance()
    remember(plain, Provenance(base=made.base, old_head=made.old_head))
    return plain
