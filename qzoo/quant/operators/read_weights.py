"""Weights that an operator of a block's own forward reads: found by the parameter itself, quantized whole or in parts.

While a graph is captured, a part can't be told from any other tensor. There the parameter is quantized where parts of
it are taken, and the parts stay as they are.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.derived import float_name
from qzoo.quant.inputs import tensors
from qzoo.quant.operators.operands import Operand
from qzoo.quant.tracing import is_captured
from qzoo.quant.weight_cache import WeightCache
from qzoo.schema.resolution.plan import WeightRead


class FunctionalPlaces(NamedTuple):
    """The quantizers of a layer that an operator of a block computes.

    Attributes:
        op: the operator.
        operand: the operand that is the weight.
        read: the weight.
        names: by operand, or `output`: the names of the quantizers in the block.
    """

    op: str
    operand: str
    read: WeightRead
    names: dict[str, str]


class MadeOf:
    """Which parameters of a block the tensors of one call are computed from, if from nothing else.

    Known is what the block's own forward computes; of what it is given, and of what other modules give, nothing is.

    Args:
        block: a `QuantizedBlock`.
    """

    def __init__(self, block: Any) -> None:
        held = block.named_parameters(remove_duplicate=False)
        self._sources = {id(parameter): frozenset([path]) for path, parameter in held}
        self._sources |= {id(buffer): frozenset() for buffer in block.buffers()}
        # A tensor that were freed could lend its id to the next.
        self._alive: list[Any] = []

    def __getitem__(self, tensor: Tensor) -> frozenset[str] | None:
        """Returns the paths of the parameters; None where they are not known."""
        return self._sources.get(id(tensor))

    def note(self, given: Any, made: Any) -> None:
        """Notes what an operator made of what it was given."""
        found = [self[tensor] for tensor in tensors(given)]
        sources = frozenset[str]().union(*(one for one in found if one is not None))
        if None not in found:
            self._alive.append(made)
            self._sources |= {id(tensor): sources for tensor in tensors(made)}


def layers_read(
    block: Any, op: str, found: list[tuple[Operand, Tensor]], made_of: MadeOf | None
) -> list[dict[str, str]]:
    """Returns the quantizers of each layer whose weight an operator reads, by operand.

    Args:
        block: a `QuantizedBlock`.
        op: the operator.
        found: its operands.
        made_of: what is known of computed weights.
    """
    return [
        layer.names
        for layer in block.operator_layers
        if layer.op == op
        and any(operand.name == layer.operand and _reads(block, layer, value, made_of) for operand, value in found)
    ]


def reads_another(
    block: Any, names: dict[str, str], found: list[tuple[Operand, Tensor]], made_of: MadeOf | None
) -> bool:
    """Whether an operator surely reads another weight than that of the layer whose quantizers stand at its site.

    Args:
        block: a `QuantizedBlock`.
        names: the quantizers at the site, by operand.
        found: the operands.
        made_of: what is known of computed weights.
    """
    layers = [layer for layer in block.operator_layers if layer.names.items() <= names.items()]
    weights = [value for layer in layers for operand, value in found if operand.name == layer.operand]
    return bool(weights) and all(_is_known(value, made_of) for value in weights)


def _reads(block: Any, layer: FunctionalPlaces, value: Tensor, made_of: MadeOf | None) -> bool:
    if layer.read.parameter is not None:
        return _is_part(value, _held(block, layer.read.parameter))
    return made_of is not None and bool(layer.read.made_of) and made_of[value] == frozenset(layer.read.made_of)


def _is_known(value: Tensor, made_of: MadeOf | None) -> bool:
    """Whether it is told what a weight is: a parameter, a part of one, or computed from some."""
    is_one = isinstance(value, nn.Parameter) or isinstance(value._base, nn.Parameter)
    return is_one or (made_of is not None and bool(made_of[value]))


def stored(block: Any, value: Any) -> Any:
    """Returns a parameter that is read in parts as its quantizer makes it, so that the parts are quantized too."""
    for name, read in block.operator_weights.items():
        if read.in_parts and read.parameter is not None and value is _held(block, read.parameter):
            return block._modules[name](value)
    return value


def _is_part(value: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor is a parameter, or a view of it; a compiler can't tell, and has the sites."""
    return value is parameter or (not is_captured() and value._base is parameter)


def quantized_weight(block: Any, name: str, read: WeightRead, weight: Tensor) -> Tensor:
    """Returns a weight as its quantizer makes it; of a part of a parameter, that part of the whole quantized one."""
    quantizer, whole = block._modules[name], weight
    if read.parameter is not None:
        whole = _held(block, read.parameter)
        if is_captured() and whole is not weight:
            return weight  # a part of what is quantized already, see `stored`
    elif tuple(weight.shape) != read.size:
        raise UnsupportedError(_other_weight(block, name, read, weight))
    elif not torch.is_grad_enabled() and not is_captured():
        block.__dict__.setdefault("computed_weights", {})[name] = weight.detach()
    if is_captured():
        quantized = quantizer(whole)
    else:
        cache: WeightCache = block.__dict__.setdefault("weight_caches", {}).setdefault(name, WeightCache())
        quantized = cache.quantized(quantizer, whole)
    if whole is weight:
        return quantized  # type: ignore[no-any-return]
    return _part(quantized, whole, weight)


def _other_weight(block: Any, name: str, read: WeightRead, weight: Tensor) -> str:
    return (
        f"{float_name(block)} computes a weight of shape {tuple(weight.shape)} where it computed one of "
        f"{read.size} ({name}) when it was quantized: its forward takes another way now. Quantize the float model with "
        "an example of this way: qzoo.quantize(model, scheme, example=inputs)."
    )


def _part(quantized: Tensor, whole: Tensor, part: Tensor) -> Tensor:
    """Returns the part of a quantized parameter that a view is of the parameter itself."""
    # What is expanded may be so by the size of a batch, which an exported graph does not know.
    size = [1 if step == 0 else length for length, step in zip(part.shape, part.stride(), strict=True)]
    offset = quantized.storage_offset() + part.storage_offset() - whole.storage_offset()
    own = quantized.as_strided(size, part.stride(), offset)
    return own.expand(part.shape)


def read_weight(block: Any, name: str) -> Tensor | None:
    """Returns the float weight that an operator of a block reads, by the name of its quantizer.

    Of one that is computed it is the value of the last pass without gradients; None if there was none.
    """
    parameter = block.operator_weights[name].parameter
    if parameter is None:
        return block.__dict__.get("computed_weights", {}).get(name)  # type: ignore[no-any-return]
    return _held(block, parameter)


def _held(block: nn.Module, path: str) -> Tensor:
    """Returns what stands for a parameter: itself, or what `torch.func.functional_call` and the like put there."""
    return attrgetter(path)(block)  # type: ignore[no-any-return]
