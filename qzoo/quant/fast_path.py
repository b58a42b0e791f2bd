"""Keeping torch's transformer encoders on the path that calls their layers.

In evaluation without gradients `nn.TransformerEncoderLayer` computes everything in one native function, from the
weights of its layers, which it never calls: quantizers in them would be passed by. `nn.TransformerEncoder` packs its
input for that function into a nested tensor, which the layers themselves can't take.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.derived import Derived, derive, float_name
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.tracing import is_captured


def _always(name: str, value: Any) -> Any:
    """Returns an attribute that reads the same whatever is written to it; what is written comes back with the class."""
    return property(lambda self: value, lambda self, given: self.__dict__.__setitem__(name, given))


class CallingEncoder(Derived):
    """What is added to an encoder's own class: what it asks before it takes the native function says no."""

    activation_relu_or_gelu = _always("activation_relu_or_gelu", 0)
    use_nested_tensor = _always("use_nested_tensor", False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the encoder's own forward, which calls its layers.

        Raises:
            UnsupportedError: it is given a nested tensor, which torch's native function alone computes with.
        """
        if any(isinstance(one, Tensor) and one.is_nested for one in (*args, *kwargs.values())):
            raise UnsupportedError(
                f"{float_name(self)} was given a nested tensor, which its quantized layers can't take. Give a padded "
                "one, x.to_padded_tensor(0.0), with src_key_padding_mask."
            )
        return super().forward(*args, **kwargs)


class CallingEncoders(CallingEncoder):
    """What is added to the class of a whole encoder, whose float form leaves out padded tokens in evaluation."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the encoder's own forward; padded tokens, which it would have left out, are 0 before the last norm."""
        output = super().forward(*args, **kwargs)
        padded = args[2] if len(args) > 2 else kwargs.get("src_key_padding_mask")
        if not self._leaves_out(output, padded):
            return output
        norm = self._modules.get("norm")
        empty = torch.zeros_like(output)
        return torch.where(_as_bool(padded).unsqueeze(-1), empty if norm is None else norm(empty), output)

    def _leaves_out(self, output: Tensor, padded: Tensor | None) -> bool:
        """Whether torch packs the input into a nested tensor: without gradients, if padding stands at the end."""
        asks = self.__dict__.get("use_nested_tensor", False) and padded is not None and not is_captured()
        if not asks or self.training or torch.is_grad_enabled() or output.dim() != 3:
            return False
        ends = _as_bool(padded).int().diff(dim=1)
        return bool((ends >= 0).all()) or not self.__dict__.get("mask_check", True)


def _as_bool(mask: Any) -> Tensor:
    found: Tensor = mask if mask.dtype == torch.bool else mask != 0
    return found


def close_fast_paths(model: nn.Module) -> None:
    """Lets every encoder of a model that holds quantizers call its layers, in place."""
    for module in list(model.modules()):
        encoder = isinstance(module, nn.TransformerEncoderLayer | nn.TransformerEncoder)
        if encoder and any(isinstance(part, TensorQuantizer) for part in module.modules()):
            derive(module, CallingEncoders if isinstance(module, nn.TransformerEncoder) else CallingEncoder)
