"""The tutorial's last step without its copy of resnet.py: quantizers on the skip branches of residual additions.

The tutorial copies torchvision's resnet.py, gives each block a `residual_quantizer` and passes `identity` through it.
Here the additions are found by running the model once, in any architecture, and no forward is touched; the names, and
so the keys of the state dict, are the tutorial's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.errors import UnsupportedError
from qzoo.models.operators import find_operators
from qzoo.quant.operators.blocks import count_calls_from_start, quantize_operators
from qzoo.schema.resolution.plan import Operator

NAME = "residual_quantizer"


def add_residual_quantizers(
    model: nn.Module, quant_desc: QuantDescriptor | None = None, example: Any = None
) -> list[str]:
    """Gives every residual addition of a model a quantizer on its skip branch, in place.

    Args:
        model: any, with quantized layers or without; its blocks get a class derived from their own.
        quant_desc: the descriptor of the quantizers; default: that of the inputs of `QuantConv2d`, as in the tutorial.
        example: an input, or a tuple of arguments, that the model takes; default: random values of a likely size.

    Returns:
        The paths of the quantizers, `layer1.0.residual_quantizer` ...

    Raises:
        UnsupportedError: the model has residual quantizers already, does not run on the example, or adds nowhere.

    Source: pytorch-quantization 2.2.1, tutorial "Quantizing Resnet50", section "Further optimization".
    """
    there = [path for path, _ in model.named_modules() if path.rpartition(".")[2].startswith(NAME)]
    if there:
        raise UnsupportedError(f"This model has residual quantizers already, such as {there[0]}.")
    with _disabled(model):
        additions = [operator for operator in find_operators(model, example) if operator.skip is not None]
    if not additions:
        raise UnsupportedError(f"{type(model).__name__} has no residual addition: nothing to quantize.")
    by_block: dict[str, list[Operator]] = {}
    for addition in additions:
        by_block.setdefault(addition.module, []).append(addition)
    desc = quant_nn.QuantConv2d.default_quant_desc_input if quant_desc is None else quant_desc
    for path, own in by_block.items():
        places = {addition.site: {str(addition.skip): _name(addition)} for addition in own}
        made = {_name(addition): quant_nn.TensorQuantizer(desc) for addition in own}
        quantize_operators(model.get_submodule(path), made, places, calls=own[0].calls)
    if any(addition.calls > 1 for addition in additions):
        count_calls_from_start(model)
    return [f"{addition.module}.{_name(addition)}".lstrip(".") for addition in additions]


def _name(addition: Operator) -> str:
    return NAME if addition.residual_number == 1 else f"{NAME}_{addition.residual_number}"


@contextmanager
def _disabled(model: nn.Module) -> Iterator[None]:
    """Lets the model compute in float, so that quantizers are no steps on the way from one operator to another."""
    enabled = [one for one in model.modules() if isinstance(one, quant_nn.TensorQuantizer) and not one._disabled]
    for quantizer in enabled:
        quantizer.disable()
    try:
        yield
    finally:
        for quantizer in enabled:
            quantizer.enable()
