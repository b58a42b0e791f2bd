"""All weights of a model that are quantized: those of layers, and those that operators of other modules read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import run
from qzoo.quant.layers import QuantizedLayer, float_weight, output_channel_axis, quantizer_of, weight_groups
from qzoo.quant.operators.blocks import QuantizedBlock
from qzoo.quant.operators.read_weights import read_weight
from qzoo.quant.quantizer import TensorQuantizer, UncalibratedWarning


class QuantizedWeight(NamedTuple):
    """A float weight and its quantizer.

    Attributes:
        quantizer: what quantizes it.
        values: its values, float; None for one that is computed, while no pass without gradients has shown it.
        axis: the axis that its output channels lie along; None where they lie along none.
        groups: the number of groups along the first axis that have channels of their own.
        key: the key of its parameter in the state dict; None where it is none.
        is_computed: whether a forward computes it from parameters, as that of a cosine classifier.
    """

    quantizer: TensorQuantizer
    values: Tensor | None
    axis: int | None
    groups: int
    key: str | None
    is_computed: bool = False


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """Returns the quantized weights of a model by the path of their quantizer, in the order of the model.

    Example:
        >>> from qzoo.zoo.create import quantize
        >>> list(quantized_weights(quantize(nn.Sequential(nn.Linear(2, 2)), "int8")))
        ['0.weight_quantizer']
    """
    found: dict[str, QuantizedWeight] = {}
    for path, module in model.named_modules():
        quantizer = quantizer_of(module, "weight")
        if isinstance(module, QuantizedLayer) and quantizer is not None:
            key = f"{path}.weight".lstrip(".") if module._parameters.get("weight") is not None else None
            axis, groups = output_channel_axis(module), weight_groups(module)
            found[f"{path}.weight_quantizer".lstrip(".")] = QuantizedWeight(
                quantizer, float_weight(module), axis, groups, key
            )
        elif isinstance(module, QuantizedBlock):
            found |= _read_in(path, module)
    return found


def _read_in(path: str, block: QuantizedBlock) -> dict[str, QuantizedWeight]:
    found = {}
    for name, read in block.operator_weights.items():
        quantizer = block._modules[name]
        if isinstance(quantizer, TensorQuantizer):
            key = None if read.parameter is None else f"{path}.{read.parameter}".lstrip(".")
            values = read_weight(block, name)
            found[f"{path}.{name}".lstrip(".")] = QuantizedWeight(
                quantizer, values, read.axis, read.groups, key, read.parameter is None
            )
    return found


def show_computed_weights(model: nn.Module, example: Callable[[], Any]) -> None:
    """Lets the quantizers of computed weights see what these are now, if a model has any: it runs once.

    Args:
        model: quantized; its parameters and ranges stay as they are.
        example: gives an input that it takes.
    """
    if any(one.is_computed for one in quantized_weights(model).values()):
        with torch.no_grad(), evaluation_mode(model), warnings.catch_warnings():
            warnings.simplefilter("ignore", UncalibratedWarning)  # it is about to be calibrated
            run(model, example())
