"""Where a number for each output channel can be added to a product: its bias, or the norm that alone reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qzoo.models.tracing import OperatorCall, Trace, trace
from qzoo.optimization.closed_form.products import Part, Product, watching
from qzoo.quant.inputs import run
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


class BiasPlaces(NamedTuple):
    """Where the products of a model can be shifted.

    Attributes:
        places: by product; none of those that can't be shifted alone.
        shared: the quantizers of weights that several layers have, or whose bias several do: each would want another
            shift.
    """

    places: dict[tuple[str, Part], BiasPlace]
    shared: set[str]


def bias_places(
    model: nn.Module, float_model: nn.Module, weights: Mapping[str, QuantizedWeight], example: Any
) -> BiasPlaces:
    """Returns where the products of a model can be shifted.

    Args:
        model: quantized; run once.
        float_model: what it was made of; run once.
        weights: those of the model that are parameters, by the path of their quantizer.
        example: an input that both take.
    """
    norms = norms_after(float_model, trace(float_model, example))
    found: dict[tuple[str, Part], BiasPlace] = {}

    def see(product: Product) -> None:
        place = _place(model, product, norms.get(weights[product.weight].key or ""))
        if place is not None:
            found[product.read] = place

    with watching(model, weights, see):
        run(model, example)
    shared = _shared(weights, found)
    return BiasPlaces({read: place for read, place in found.items() if read[0] not in shared}, shared)


def _place(model: nn.Module, product: Product, norm: str | None) -> BiasPlace | None:
    bias = product.bias
    if bias is not None:
        parameters = {id(one) for one in model.parameters()}
        return BiasPlace(bias) if {id(bias), id(bias._base)} & parameters else None
    mean = None if norm is None else getattr(model.get_submodule(norm), "running_mean", None)
    return None if mean is None else BiasPlace(mean, -1)


def _shared(weights: Mapping[str, QuantizedWeight], places: Mapping[tuple[str, Part], BiasPlace]) -> set[str]:
    had = [(path, weight.values) for path, weight in weights.items() if weight.values is not None]
    had += [(path, place.values) for (path, _), place in places.items()]
    layers: dict[tuple[int, torch.Size], set[str]] = {}
    for path, values in had:
        layers.setdefault((values.data_ptr(), values.shape), set()).add(path)
    return {path for paths in layers.values() if len(paths) > 1 for path in paths}


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
