"""Where a number for each output channel can be added to a product: its bias, or the norm that alone reads it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qzoo.models.tracing import OperatorCall, Trace
from qzoo.optimization.closed_form.products import Product
from qzoo.quant.weights import QuantizedWeight


class BiasPlace(NamedTuple):
    """A vector of a model that shifts a product, one element a channel.

    Attributes:
        values: the vector, a parameter, a part of one, or a buffer.
        sign: 1 where it is added, -1 where it is taken away.
    """

    values: Tensor
    sign: int = 1

    def add(self, shift: Tensor) -> None:
        """Shifts the product by as much, in place."""
        with torch.no_grad():
            self.values.add_((self.sign * shift).reshape(self.values.shape).to(self.values))


def bias_place(model: nn.Module, product: Product, weight: QuantizedWeight, norms: dict[str, str]) -> BiasPlace | None:
    """Returns where a product can be shifted; None where it can't.

    Args:
        model: what the product was seen in.
        product: one that was seen.
        weight: its weight.
        norms: what `norms_after` returns.
    """
    bias = product.bias
    if bias is not None:
        parameters = {id(one) for one in model.parameters()}
        return BiasPlace(bias) if {id(bias), id(bias._base)} & parameters else None
    mean = getattr(model.get_submodule(norms[weight.key]), "running_mean", None) if weight.key in norms else None
    return None if mean is None else BiasPlace(mean, -1)


def norms_after(model: nn.Module, traced: Trace) -> dict[str, str]:
    """Returns the path of the batch norm that normalizes a product and alone reads it, by the path of the weight.

    Args:
        model: float.
        traced: what it evaluates.
    """
    readers: dict[int, list[OperatorCall]] = {}
    for call in traced.evaluations[1:]:
        for index in call.inputs:
            readers.setdefault(index, []).append(call)
    found: dict[str, str] = {}
    products = [call for call in traced.evaluations if call.reads]
    paths = [read.parameter for call in products for read in call.reads.values()]
    for call in products:
        (read, *_), after = call.reads.values(), readers.get(call.index, [])
        # Of a weight that is used twice, or a norm that is, each use would want another shift.
        norm = norm_of(model, traced, after[0]) if len(after) == 1 and paths.count(read.parameter) == 1 else None
        if read.parameter is not None and norm is not None:
            found[read.parameter] = norm
    return found


def norm_of(model: nn.Module, traced: Trace, call: OperatorCall) -> str | None:
    """Returns the path of the batch norm that evaluates an operator; None where it is none with statistics."""
    module = model.get_submodule(call.module)
    is_one = call.op == "batch_norm" and isinstance(module, _BatchNorm) and module.running_mean is not None
    return call.module if is_one and traced.calls[call.module] == 1 else None
