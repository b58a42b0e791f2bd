"""Keeping torch's transformer encoders on the path that calls their layers.

In evaluation without gradients `nn.TransformerEncoderLayer` computes everything in one native function, from the
weights of its layers, which it never calls: quantizers in them would be passed by. `nn.TransformerEncoder` packs its
input for that function into a nested tensor, which the layers themselves can't take.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from qzoo.quant.derived import Derived, derive
from qzoo.quant.quantizer import TensorQuantizer


def _always(name: str, value: Any) -> Any:
    """Returns an attribute that reads the same whatever is written to it; what is written comes back with the class."""
    return property(lambda self: value, lambda self, given: self.__dict__.__setitem__(name, given))


class CallingEncoder(Derived):
    """What is added to an encoder's own class: what it asks before it takes the native function says no."""

    activation_relu_or_gelu = _always("activation_relu_or_gelu", 0)
    use_nested_tensor = _always("use_nested_tensor", False)


def close_fast_paths(model: nn.Module) -> None:
    """Lets every encoder of a model that holds quantizers call its layers, in place."""
    for module in list(model.modules()):
        encoder = isinstance(module, nn.TransformerEncoderLayer | nn.TransformerEncoder)
        if encoder and any(isinstance(part, TensorQuantizer) for part in module.modules()):
            derive(module, CallingEncoder)
