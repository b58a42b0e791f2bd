"""What is not quantized, in float16, for runtimes that are told each type and choose none themselves.

ONNX wants the scale of a QuantizeLinear in the type of what it quantizes, so scales are rounded to float16 too: by at
most 2^-11 of themselves, 0.06 of a step at the end of 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from qzoo.quant.outputs import named_tensors
from qzoo.runtimes.quant_ops import ExportedActivation, ExportedWeight

SMALLEST_HALF = 2.0**-24


def to_half(exported: nn.Module) -> None:
    """Makes what an exportable model computes in float32 float16, in place; images and logits stay float32.

    Args:
        exported: made by `exportable`; stored integers and FP8 values stay as they are.
    """
    exported._apply(_halved)
    for module in exported.modules():
        if isinstance(module, ExportedActivation | ExportedWeight):
            module.scale.clamp_(min=SMALLEST_HALF)  # those of channels that hold nothing became 0
    exported.register_forward_pre_hook(_to_half, with_kwargs=True)
    exported.register_forward_hook(_to_float)


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.dtype == torch.float32 else tensor


def _to_half(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return tree_map(lambda leaf: _halved(leaf) if isinstance(leaf, Tensor) else leaf, (args, kwargs))


def _to_float(model: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    return {name: _to_float(model, args, tensor) for name, tensor in named_tensors(output).items()}
